package envoy

import "strings"

// Command writes the command line that makes a configuration, a flag a line.
func Command(name string, flags []Flag) string {
	lines := []string{"bellhop envoy " + name}
	for _, flag := range flags {
		line := flag.Name
		if flag.Value != "" {
			line += " " + quoteShell(flag.Value)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, " \\\n  ")
}

// quoteShell quotes a word where a shell would read it otherwise.
func quoteShell(word string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789%+,-./:=@_"
	if word != "" && strings.Trim(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
