package docs

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"bellhop/test/process"
)

// Every bellhop command in the documents runs, as it is written, in a folder that has the project's deploy and envoy
// and the files that a reader has made by then. What it is piped into is left out; README's recipe has a test of its
// own.
func TestEveryCommandInTheDocumentsRuns(t *testing.T) {
	binary := build(t)
	ran := 0
	for _, s := range snippets(t) {
		if s.language != "sh" {
			continue
		}
		for line := range strings.SplitSeq(strings.ReplaceAll(s.text, "\\\n", " "), "\n") {
			command, _, _ := strings.Cut(strings.TrimSpace(line), " | ")
			command, _, _ = strings.Cut(command, "  #")
			// A shared store is tested with real servers, at their own addresses.
			if !strings.HasPrefix(command, "bellhop ") || strings.Contains(command, "--store ") {
				continue
			}
			ran++
			t.Run(s.file+" "+strings.Join(strings.Fields(command), " "), func(t *testing.T) { runs(t, binary, command) })
		}
	}
	if ran < 15 {
		t.Errorf("only %d commands were found", ran)
	}
}

func runs(t *testing.T, binary, command string) {
	t.Helper()
	folder := reader(t, binary)
	serves := strings.HasPrefix(command, "bellhop serve")
	socket := filepath.Join(folder, "b.sock")
	if serves {
		command += " --listen unix://" + socket + " --admin '' --drain-delay 0s"
	}
	running, err := process.Start(process.Options{
		Name: "bellhop", Path: "/bin/sh", Args: []string{"-c",
			"exec " + command}, Dir: folder, Env: []string{"PATH=" + filepath.Dir(binary) + ":" + os.Getenv("PATH")},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(running.Kill)
	for begun := time.Now(); serves && time.Since(begun) < 10*time.Second; time.Sleep(10 * time.Millisecond) {
		if connection, err := net.Dial("unix", socket); err == nil {
			_ = connection.Close()
			if err := running.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			break
		}
	}
	select {
	case <-running.Done():
		if code := running.ExitCode(); code != 0 {
			t.Errorf("exit code %d:\n%s", code, running.Output())
		}
	case <-time.After(20 * time.Second):
		t.Errorf("it does not end:\n%s", running.Output())
	}
}

// reader makes a folder as the documents' reader has it: what they call policy.yaml is the whole language, as
// policy/README.md shows it.
func reader(t *testing.T, binary string) string {
	t.Helper()
	folder := t.TempDir()
	for _, name := range []string{"deploy", "envoy"} {
		if err := os.CopyFS(filepath.Join(folder, name), os.DirFS(filepath.Join(root, name))); err != nil {
			t.Fatal(err)
		}
	}
	files := map[string]string{
		"keys": "", "team.yaml": "version: 1\nforward: [x-mcp-api-key]\n",
		"search.yaml": "version: 1\nfanout: search\nforward: " +
			"[x-mcp-api-key]\n", "teams/billing.yaml": "version: 1\nfanout: billing\nforward: [x-mcp-api-key]\n",
	}
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(read(t, "policy/README.md"),
		-1) {
		switch text := block[1]; {
		case strings.Contains(text, "\nceiling:"):
			files["mesh.yaml"] = text
		case strings.Contains(text, "\nfanout: search"):
			files["policy.yaml"] = text
		}
	}
	for name, text := range files {
		path := filepath.Join(folder, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	made, err := process.Start(
		process.Options{Name: "keygen", Path: binary, Args: []string{"keygen", "--add", "keys"}, Dir: folder},
	)
	if err != nil {
		t.Fatal(err)
	}
	<-made.Done()
	return folder
}
