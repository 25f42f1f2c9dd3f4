package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// report renders rows as a table of Markdown, aligned, with what they were measured on.
func report(rows []row) string {
	table := [][]string{{"what happens", "tickets", "calls", "failed", "no key", "forgotten", "wrong", "p50", "p99"}}
	for _, r := range rows {
		name := r.scenario
		if r.part != "" {
			name += ": " + r.part
		}
		table = append(table, []string{
			name, string(r.mode), strconv.Itoa(r.calls()), strconv.Itoa(r.failed), strconv.Itoa(r.missing), r.kept(),
			strconv.Itoa(r.wrong), short(r.within(0.5)), short(r.within(0.99)),
		})
	}
	return machine() + "\n\n" + markdown(table)
}

// kept is how many calls lacked what is kept for their session, where anything is.
func (r row) kept() string {
	if r.mode == sealed {
		return "–"
	}
	return strconv.Itoa(r.forgotten)
}

func short(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }

func machine() string {
	version := "unknown"
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		version = strings.TrimSpace(string(text))
	}
	return fmt.Sprintf(
		"Measured on %s: %d processors (%s), Linux %s, %s; clients, Envoys, Bellhops, vMCP and Redis all on it.",
		time.Now().UTC().Format("2006-01-02"), runtime.NumCPU(), runtime.GOARCH, version, runtime.Version(),
	)
}

func markdown(table [][]string) string {
	widths := make([]int, len(table[0]))
	for _, cells := range table {
		for i, cell := range cells {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var text strings.Builder
	for i, cells := range table {
		for j, cell := range cells {
			if j < 2 {
				fmt.Fprintf(&text, "| %-*s ", widths[j], cell)
			} else {
				fmt.Fprintf(&text, "| %*s ", widths[j], cell)
			}
		}
		text.WriteString("|\n")
		if i > 0 {
			continue
		}
		for j, width := range widths {
			if j < 2 {
				text.WriteString("| " + strings.Repeat("-", width) + " ")
			} else {
				text.WriteString("| " + strings.Repeat("-", width-1) + ": ")
			}
		}
		text.WriteString("|\n")
	}
	return text.String()
}

const (
	begin = "<!-- chaos: written by make chaos -->"
	end   = "<!-- end of chaos -->"
)

// write puts the report into a document, between its two marks.
func write(file, report string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return fmt.Errorf("%s has no place for the report: write the lines %q and %q into it", file, begin, end)
	}
	return os.WriteFile(file, []byte(before+begin+"\n"+report+end+after), 0o644)
}
