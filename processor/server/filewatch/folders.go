package filewatch

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxLinks is how many symbolic links Linux follows on the way to a file.
const maxLinks = 40

const separator = string(filepath.Separator)

// all are the folders of these files, each once, sorted.
func all(files []string) []string {
	var found []string
	for _, file := range files {
		found = append(found, folders(file)...)
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// folders returns the folders in which a change can give path another content: that of the file itself, and that of
// each symbolic link on the way to it. If a path element is missing, the last folder is where it would appear. The
// paths contain no symbolic links, so a watch stays on the same folder.
func folders(path string) []string {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil
	}
	var found []string
	at, names := separator, split(path)
	for links := 0; len(names) > 0 && links <= maxLinks; {
		next := filepath.Join(at, names[0])
		names = names[1:]
		target, err := os.Readlink(next)
		isLink, isMissing := err == nil, errors.Is(err, os.ErrNotExist)
		if isLink || isMissing || len(names) == 0 {
			found = append(found, at)
		}
		if isMissing {
			break
		}
		if !isLink {
			at = next
			continue
		}
		links++
		names = append(split(target), names...)
		if filepath.IsAbs(target) {
			at = separator
		}
	}
	return found
}

func split(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == filepath.Separator })
}
