package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"bellhop/policy"
)

// report is all that the screen shows.
type report struct {
	envoy, vmcp   string // versions
	elapsed       time.Duration
	with, without evidence
	errs          []string // what is wrong in the evidence with Bellhop
	saved         string   // the folder with the configuration of this run
	kept          *kept    // what goes on running; nil: nothing does
}

const (
	withTitle    = "with Bellhop"
	withoutTitle = "without Bellhop"
)

// screen renders the report for one screen of a terminal.
func screen(r report, p palette) string {
	lines := picture(r, p)
	for _, block := range []struct {
		title string
		table table
	}{
		{"What vMCP saw of each client's key, and in how many requests", sawTable(r)},
		{"Whose key each backend got, in number of requests (discovery: billing's own, for vMCP's checks)", keyTable(r)},
		{"What the clients got, and what billing is to vMCP's health check", answerTable(r)},
	} {
		lines = append(lines, "", p.paint(bold, block.title))
		lines = append(lines, block.table.lines(p)...)
	}
	lines = append(lines, "")
	lines = append(lines, verdict(r, p)...)
	lines = append(lines, "")
	lines = append(lines, next(r, p)...)
	return strings.Join(lines, "\n") + "\n"
}

func picture(r report, p palette) []string {
	return []string{
		p.paint(bold, "Bellhop demo") + fmt.Sprintf(": Envoy %s, ToolHive vMCP %s, MCP Go SDK, all real; run in %.1f s",
			r.envoy, r.vmcp, r.elapsed.Seconds()),
		"",
		"  alice, bob ──▶ Envoy ──▶ vMCP ──▶ Envoy ──┬──▶ notes    modern MCP, takes every request",
		"                   └──── Bellhop ─────┘     └──▶ billing  legacy MCP, 401 without x-mcp-api-key",
		"  with Bellhop: as in the picture; vMCP passes on x-bellhop-ticket (passthroughHeaders)",
		"  without Bellhop: clients ──▶ vMCP ──▶ backends; it passes on x-mcp-api-key (passthroughHeaders)",
	}
}

// sawTable shows what the fan-out saw.
func sawTable(r report) table {
	t := table{{head("client"), head("sent"), head(withTitle), head(withoutTitle)}}
	for _, who := range players() {
		with, without := r.with.seen(who), r.without.seen(who)
		for i := range max(len(with), len(without), 1) {
			row := []cell{{}, {}}
			if i == 0 {
				row = []cell{{text: who.name}, {text: keyHeader + ": " + who.key}}
			}
			t = append(t, append(row, sightCell(with, i), sightCell(without, i)))
		}
	}
	return t
}

func sightCell(sights []sight, i int) cell {
	if i >= len(sights) {
		return cell{}
	}
	c := cell{text: fmt.Sprintf("%s  ×%d", sights[i].line, sights[i].requests), mark: bad}
	if strings.HasPrefix(sights[i].line, policy.TicketHeader) {
		c.mark = good
	}
	return c
}

// keyTable shows for each backend and kind of request whose key came how often.
func keyTable(r report) table {
	owners := ownersIn(r)
	heads := slices.Concat([]cell{head("backend"), head("request")}, numbered(owners), []cell{divider()}, numbered(owners))
	t := table{slices.Concat([]cell{{}, {}}, sides(len(owners))), heads}
	for _, s := range servers() {
		for _, kind := range kindsAt(s.name, r.with, r.without) {
			row := []cell{{text: s.name}, {text: kind}}
			row = append(row, countCells(s, r.with.byOwner(s.name, kind), owners)...)
			row = append(row, divider())
			t = append(t, append(row, countCells(s, r.without.byOwner(s.name, kind), owners)...))
		}
	}
	return t
}

// ownersIn lists the owners of keys; unknown keys only if there were any.
func ownersIn(r report) []string {
	var owners []string
	for _, who := range players() {
		owners = append(owners, who.name)
	}
	owners = append(owners, discovery, noKey)
	if r.with.has(unknownKey) || r.without.has(unknownKey) {
		owners = append(owners, unknownKey)
	}
	return owners
}

func countCells(s server, byOwner map[string]int, owners []string) []cell {
	var cells []cell
	for _, owner := range owners {
		cells = append(cells, countCell(s, owner, byOwner[owner]))
	}
	return cells
}

// countCell shows a number of requests. At a strict backend one without a key has failed.
func countCell(s server, owner string, count int) cell {
	switch {
	case count == 0:
		return cell{text: "-", mark: faint, right: true}
	case owner == unknownKey, owner == noKey && s.strict:
		return cell{text: strconv.Itoa(count), mark: bad, right: true}
	default:
		return cell{text: strconv.Itoa(count), right: true}
	}
}

// answerTable shows what the players got, and what vMCP thinks of the strict backend.
func answerTable(r report) table {
	var names []cell
	for _, who := range players() {
		names = append(names, head(who.name))
	}
	t := table{
		append([]cell{{}}, sides(len(players()))...),
		slices.Concat([]cell{head("request")}, names, []cell{divider()}, names),
	}
	whats := []string{"tools/list"}
	for _, c := range calls() {
		whats = append(whats, c.tool)
	}
	for _, what := range whats {
		t = append(
			t,
			slices.Concat([]cell{{text: what}}, answerCells(r.with, what), []cell{divider()}, answerCells(r.without, what)),
		)
	}
	return append(t, []cell{
		{text: billing + " is"}, healthCell(r.with.health[billing]), {}, divider(), healthCell(r.without.health[billing]),
	})
}

func healthCell(status string) cell {
	if status == "healthy" {
		return cell{text: status, mark: good, wide: true}
	}
	return cell{text: status, mark: bad, wide: true}
}

func answerCells(e evidence, what string) []cell {
	var cells []cell
	for _, who := range players() {
		cells = append(cells, answerCell(e.answer(who.name, what)))
	}
	return cells
}

func answerCell(a answer) cell {
	const widest = 18
	text := []rune(a.text)
	if len(text) > widest {
		text = append(text[:widest-1], '…')
	}
	if a.failed {
		return cell{text: string(text), mark: bad}
	}
	return cell{text: string(text), mark: good}
}

// sides names the two ways above the columns that belong to each of them.
func sides(columns int) []cell {
	rest := make([]cell, columns-1)
	return slices.Concat(
		[]cell{{text: withTitle, mark: bold, wide: true}}, rest, []cell{divider()},
		[]cell{{text: withoutTitle, mark: bold, wide: true}}, rest,
	)
}

// divider stands between the two ways.
func divider() cell { return cell{text: "│", mark: faint} }

func head(text string) cell { return cell{text: text, mark: faint} }

// numbered are the heads of columns of numbers.
func numbered(texts []string) []cell {
	var cells []cell
	for _, text := range texts {
		cells = append(cells, cell{text: text, mark: faint, right: true})
	}
	return cells
}

// verdict says what was checked, or what is wrong.
func verdict(r report, p palette) []string {
	if len(r.errs) == 0 {
		return []string{
			p.paint(
				good,
				"Checked",
			) + fmt.Sprintf(
				" with Bellhop: %d requests at vMCP, each with one ticket and without any key;",
				len(r.with.atFanout),
			),
			fmt.Sprintf(
				"%d at the backends, no ticket, each tool call with its caller's key, each session with one key.",
				r.with.requests(),
			),
		}
	}
	const most = 10
	lines := []string{p.paint(bad, fmt.Sprintf("WRONG with Bellhop, number of errors: %d", len(r.errs)))}
	for _, fault := range r.errs[:min(most, len(r.errs))] {
		lines = append(lines, "  "+fault)
	}
	return lines
}

// next says what to try now.
func next(r report, p palette) []string {
	if r.kept != nil {
		return r.kept.table().lines(p)
	}
	return table{
		{
			{text: "Next:"},
			{text: "make demo KEEP=1", mark: bold},
			{text: "lets all of it run, for an MCP client of your own"},
		},
		{{}, {text: "The policy and the configuration of Envoy and vMCP of this run are in", wide: true}},
		{{}, {text: r.saved, mark: bold, wide: true}},
	}.lines(p)
}
