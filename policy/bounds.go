package policy

import "bytes"

// The most of each that a document may have. The YAML library takes memory and time by the square of some of them
// (goccy/go-yaml 1.19: 20,000 brackets took 640 MB, 50,000 keys 12 s), and one team's document must not stop the
// others. A policy with all its rules and a thousand backends stays far below.
const (
	maxBrackets  = 4096 // flow sequences and mappings
	maxKeys      = 4096 // colons, each of which can end the key of a mapping entry
	maxItems     = 4096 // of flow sequences and mappings
	maxLines     = 20000
	maxNested    = 32 // block sequences that begin on one line
	maxDocuments = 16
)

// simple reports a document that the YAML library must not see. It counts bytes wherever they stand, also in texts and
// comments: a reader that told these apart could be misled.
func (d *decoder) simple(text []byte) bool {
	var brackets, keys, items, lines, documents int
	for line := range bytes.Lines(text) {
		lines++
		brackets += bytes.Count(line, []byte("[")) + bytes.Count(line, []byte("{"))
		keys += bytes.Count(line, []byte(":"))
		items += bytes.Count(line, []byte(","))
		if bytes.HasPrefix(line, []byte("---")) {
			documents++
		}
		nested := bytes.Count(line, []byte("- ")) + bytes.Count(line, []byte("? ")) + bytes.Count(line, []byte("-\t"))
		for _, count := range []struct {
			of       string
			is, most int
		}{
			{"opening brackets", brackets, maxBrackets},
			{"colons", keys, maxKeys},
			{"commas", items, maxItems},
			{"lines", lines, maxLines},
			{"dashes in one line", nested, maxNested},
			{"documents", documents, maxDocuments},
		} {
			if count.is > count.most {
				d.errorAt(
					Position{Line: lines, Column: 1}, "make it smaller, or split it; nothing of it was read",
					"the document has more than %d %s", count.most, count.of,
				)
				return false
			}
		}
	}
	return true
}
