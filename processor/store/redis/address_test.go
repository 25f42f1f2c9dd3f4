package redis

import (
	"strings"
	"testing"
)

// With TLS and a password the Sentinels are asked by TLS and with the password, and each node by its own name.
func TestSentinelsUseTheServersSettings(t *testing.T) {
	options, err := parse("rediss://user:secret@one.example:26379?addr=two.example:26379&master_set=main")
	if err != nil {
		t.Fatal(err)
	}
	sentinel := options.Sentinel
	if sentinel.TLSConfig == nil || sentinel.Username != "user" || sentinel.Password != "secret" ||
		sentinel.Dialer.Timeout == 0 {
		t.Errorf("Sentinels are asked as %q, TLS %v", sentinel.Username, sentinel.TLSConfig != nil)
	}
	if name := options.TLSConfig.ServerName; name != "" {
		t.Errorf("all nodes have to be %q", name)
	}
	if len(options.InitAddress) != 2 {
		t.Errorf("%d addresses", len(options.InitAddress))
	}
	own, err := parse("redis://user:secret@one.example?master_set=main&sentinel_username=watch&sentinel_password=word")
	if err != nil || own.Sentinel.Username != "watch" || own.Sentinel.Password != "word" || own.Username != "user" {
		t.Errorf("Sentinels have a user of their own: %v", err)
	}
	none, err := parse("redis://user:secret@one.example?master_set=main&sentinel_password=")
	if err != nil || none.Sentinel.Username != "" || none.Sentinel.Password != "" {
		t.Errorf("Sentinels have no password: %v", err)
	}
}

// What an address says more than this package knows could take away what it relies on, and may be a part of a password.
func TestAnAddressRejectsUnknownOptions(t *testing.T) {
	for _, query := range []string{"client_cache=0", "protocol=2", "max_retries=5", "skip_verify=true", "write_timeout=1h",
		"canary@host"} {
		if _, err := parse("rediss://host?" + query); err == nil || strings.Contains(err.Error(), "canary") ||
			strings.Contains(err.Error(), query) {
			t.Errorf("%s: %v", query, err)
		}
	}
	for _, address := range []string{"valkeys://host/3", "unix:///run/redis.sock?db=3", "redis://host?addr=other:1"} {
		if _, err := parse(address); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
}
