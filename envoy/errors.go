package envoy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// OptionErrors gathers all that is wrong with the options, so that one run shows it all.
type OptionErrors []error

// Add reports one error: the flag, its value, what is wrong, and how to fix it.
func (f *OptionErrors) Add(flag, value, wrong, hint string) {
	if value != "" {
		flag += " " + withoutSecrets(value)
	}
	*f = append(*f, fmt.Errorf("%s: %s; %s", flag, wrong, hint))
}

// AddProblem reports a problem that the parser of the value found, if it found one.
func (f *OptionErrors) AddProblem(flag, value string, p *Problem) bool {
	if p != nil {
		f.Add(flag, value, p.Wrong, p.Hint)
	}
	return p != nil
}

// withoutSecrets takes out of a URL, sound or not, where people put passwords and keys.
func withoutSecrets(value string) string {
	value = regexp.MustCompile(`//.*@`).ReplaceAllString(value, "//…@")
	return regexp.MustCompile(`\?.*`).ReplaceAllString(value, "?…")
}

// Join returns all errors as one error, or nil.
func (f *OptionErrors) Join() error { return errors.Join(*f...) }

// Problem is what a parser finds wrong with a value. It does not know whose value it is.
type Problem struct{ Wrong, Hint string }

// printable reports whether text can stand in a message and in a comment.
func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}
