package main

import (
	"strings"
	"unicode/utf8"
)

// mark says how a text stands out, where there are colours.
type mark string

const (
	plain mark = ""
	bold  mark = "1"
	good  mark = "32"
	bad   mark = "31"
	faint mark = "2"
)

// palette paints for a terminal, or not at all.
type palette struct{ colours bool }

func (p palette) paint(m mark, text string) string {
	if !p.colours || m == plain || text == "" {
		return text
	}
	return "\x1b[" + string(m) + "m" + text + "\x1b[0m"
}

// cell is one field of a table.
type cell struct {
	text  string
	mark  mark
	right bool // aligned to the right, as numbers are
	wide  bool // may reach over the empty cells that follow; its column need not fit it
}

// table is a list of rows whose columns are aligned.
type table [][]cell

// gap is what stays free between two columns.
const gap = 2

// lines renders the table without any space at the end of a line.
func (t table) lines(p palette) []string {
	widths := t.widths()
	var all []string
	for _, row := range t {
		var line strings.Builder
		at, start := 0, gap // at: what is written; start: where the column begins
		for i, c := range row {
			length := utf8.RuneCountInString(c.text)
			from := start
			if c.right {
				from += widths[i] - length
			}
			if length > 0 {
				line.WriteString(strings.Repeat(" ", max(0, from-at)) + p.paint(c.mark, c.text))
				at = from + length
			}
			start += widths[i] + gap
		}
		all = append(all, line.String())
	}
	return all
}

func (t table) widths() []int {
	var widths []int
	for _, row := range t {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			if !c.wide {
				widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
			}
		}
	}
	return widths
}
