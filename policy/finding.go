package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Severity says whether a finding keeps a policy from being used.
type Severity string

const (
	// SeverityError is an error: the policy is not used.
	SeverityError Severity = "error"
	// SeverityWarning is legal but unwise: the policy is used.
	SeverityWarning Severity = "warning"
)

// Position is a place in a policy document. Line and Column count from 1; a column counts characters.
type Position struct {
	Line   int `json:"line"`
	Column int `json:"column"`
}

// Finding is one error or warning about a policy document.
type Finding struct {
	Severity Severity `json:"severity"`
	File     string   `json:"file"`
	Position
	Message string `json:"message"` // what is wrong
	Hint    string `json:"hint"`    // how to fix it
	Topic   Topic  `json:"topic,omitempty"`
	Source  string `json:"source"` // the line of the document, or the part of a long one around the column
	mark    int    // where the column is in Source, from 0
}

// String renders the finding with its source line and a mark under the column, over several lines.
func (f Finding) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s:%d:%d: %s: %s\n", f.File, f.Line, f.Column, f.Severity, f.Message)
	if f.Source != "" {
		number := strconv.Itoa(f.Line)
		mark := strings.Repeat(" ", f.mark) + "^"
		fmt.Fprintf(&text, "  %s | %s\n  %s | %s\n", number, f.Source, strings.Repeat(" ", len(number)), mark)
	}
	if f.Hint != "" {
		fmt.Fprintf(&text, "  hint: %s\n", f.Hint)
	}
	return text.String()
}

// Topic groups warnings that may not apply where another source has the missing information.
type Topic string

// TopicClusters groups warnings about backends without clusters. They do not apply where Envoy's configuration names
// the backend (bellhop-backend).
const TopicClusters Topic = "clusters"

// Findings are all findings of one document, sorted by position.
type Findings []Finding

// HasErrors reports whether one of them keeps the policy from being used.
func (f Findings) HasErrors() bool { return f.Count(SeverityError) > 0 }

// Count returns how many findings have the given severity.
func (f Findings) Count(severity Severity) int {
	n := 0
	for _, finding := range f {
		if finding.Severity == severity {
			n++
		}
	}
	return n
}

// Error implements error with all findings, each over several lines.
func (f Findings) Error() string {
	parts := make([]string, len(f))
	for i, finding := range f {
		parts[i] = finding.String()
	}
	return strings.Join(parts, "\n")
}

// recorder gathers the findings of one document.
type recorder struct {
	file     string
	lines    []string
	findings Findings
	unread   map[Position]bool // values that were of the wrong type
}

func newRecorder(file string, source []byte) *recorder {
	return &recorder{file: file, lines: strings.Split(string(source), "\n"), unread: make(map[Position]bool)}
}

func (r *recorder) errorAt(at Position, hint, format string, args ...any) {
	r.add(SeverityError, at, hint, format, args...)
}

func (r *recorder) warn(at Position, hint, format string, args ...any) {
	r.add(SeverityWarning, at, hint, format, args...)
}

func (r *recorder) add(severity Severity, at Position, hint, format string, args ...any) {
	if at.Line == 0 {
		at = Position{Line: 1, Column: 1}
	}
	finding := Finding{
		Severity: severity,
		File:     r.file,
		Position: at,
		Hint:     hint,
		Message:  fmt.Sprintf(format, args...),
	}
	if at.Line <= len(r.lines) {
		finding.Source, finding.mark = excerpt(r.lines[at.Line-1], at.Column)
	}
	r.findings = append(r.findings, finding)
}

// maxExcerpt bounds what is shown of one line, in characters.
const maxExcerpt = 160

// excerpt returns the part of a line around a column, without control characters, and the position of the column in
// it, from 0.
func excerpt(line string, column int) (shown string, mark int) {
	runes := []rune(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.TrimRight(line, "\r")))
	mark = max(column-1, 0)
	before, after := "", ""
	if mark > maxExcerpt/2 && len(runes) > maxExcerpt {
		cut := min(mark-maxExcerpt/2, len(runes))
		runes, mark, before = runes[cut:], mark-cut+1, "…"
	}
	if len(runes) > maxExcerpt {
		runes, after = runes[:maxExcerpt], "…"
	}
	return before + string(runes) + after, mark
}

// warnOf adds a warning with a topic.
func (r *recorder) warnOf(topic Topic, at Position, hint, format string, args ...any) {
	r.warn(at, hint, format, args...)
	r.findings[len(r.findings)-1].Topic = topic
}

// sorted returns the findings by position. Findings at one position keep their order.
func (r *recorder) sorted() Findings {
	slices.SortStableFunc(r.findings, func(a, b Finding) int {
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Column - b.Column
	})
	return r.findings
}
