package envoy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"bellhop/envoy"
)

// accepts asks Envoy itself whether it takes a configuration.
func accepts(t *testing.T, config string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "envoy.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), envoyBinary(t), "--mode", "validate", "-c", file, "--log-level",
		"warning").
		CombinedOutput()
	if err != nil {
		t.Errorf("Envoy refuses it: %v\n%s\nin:\n%s", err, out, config)
	}
}

func TestEnvoyAcceptsExamples(t *testing.T) {
	for name, options := range examples() {
		t.Run(name, func(t *testing.T) {
			envoyBinary(t)
			config := read(t, configFile(name))
			_, err := os.Stat(envoy.DefaultTrustedCA)
			if err == nil && options.BellhopCA == "" {
				accepts(t, config)
				return
			}
			// Envoy reads the files that are named, so they have to be there.
			ca := newAuthority(t)
			options.TrustedCA = ca.file
			if options.BellhopCA != "" {
				options.BellhopCA = ca.file
				options.BellhopCert, options.BellhopKey = files(t, ca.issue(t, "envoy"))
			}
			again, err := envoy.Bootstrap(load(t, read(t, "../"+options.PolicyFile)), options)
			if err != nil {
				t.Fatal(err)
			}
			accepts(t, string(again))
		})
	}
}

// Names that a YAML reader could take for something else.
func TestEnvoyAcceptsOddNames(t *testing.T) {
	options := sound()
	options.Backends = nil
	for _, name := range []string{"on", "y", "No", "true", "null", "0", "12", "1e3", "0x1F", "1_000", "0o7", "017", "1.5",
		"inf", "nan", "1-2", "2020-01-01"} {
		options.Backends = append(options.Backends, name+"=http://127.0.0.1:9001/"+name)
	}
	options.Ingress, options.Fanout, options.Bellhop = "[::1]:8080", "https://[::1]", []string{"unix:///tmp/a: #b"}
	options.TrustedCA = newAuthority(t).file
	config, err := envoy.Bootstrap(load(t, "version: 1\nfanout: on\nforward: [x.y, x-on]\n"), options)
	if err != nil {
		t.Fatal(err)
	}
	accepts(t, string(config))
}
