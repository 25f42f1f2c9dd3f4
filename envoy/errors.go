package envoy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// optionErrors gathers all that is wrong with the options, so that one run shows it all.
type optionErrors []error

// add reports one fault: the flag, its value, what is wrong, and how to fix it.
func (f *optionErrors) add(flag, value, wrong, hint string) {
	if value != "" {
		flag += " " + withoutSecrets(value)
	}
	*f = append(*f, fmt.Errorf("%s: %s; %s", flag, wrong, hint))
}

// addProblem reports a problem that the parser of the value found, if it found one.
func (f *optionErrors) addProblem(flag, value string, p *problem) bool {
	if p != nil {
		f.add(flag, value, p.wrong, p.hint)
	}
	return p != nil
}

// withoutSecrets takes out of a URL, sound or not, where people put passwords and keys.
func withoutSecrets(value string) string {
	value = regexp.MustCompile(`//.*@`).ReplaceAllString(value, "//…@")
	return regexp.MustCompile(`\?.*`).ReplaceAllString(value, "?…")
}

// join returns all faults as one error, or nil.
func (f *optionErrors) join() error { return errors.Join(*f...) }

// problem is what a parser finds wrong with a value. It does not know whose value it is.
type problem struct{ wrong, hint string }

// printable reports whether text can stand in a message and in a comment.
func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}
