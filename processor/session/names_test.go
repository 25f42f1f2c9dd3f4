package session_test

import (
	"strings"
	"testing"

	"bellhop/policy"
	"bellhop/processor/session"
)

func headers(lines ...string) []policy.Header {
	var all []policy.Header
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		all = append(all, policy.Header{Name: name, Value: policy.NewValue(value)})
	}
	return all
}

func TestNamesTellApartWhatDiffers(t *testing.T) {
	names := session.NewNames([]byte("key"), "search")
	bind := []string{"authorization", "x-user"}
	all := map[string]string{
		"session":            names.Session("session-one"),
		"another":            names.Session("session-two"),
		"other fan-out":      session.NewNames([]byte("key"), "other").Session("session-one"),
		"other key":          session.NewNames([]byte("yek"), "search").Session("session-one"),
		"principal":          names.Principal(headers("authorization: a"), bind),
		"nobody":             names.Principal(nil, bind),
		"other value":        names.Principal(headers("authorization: b"), bind),
		"other header":       names.Principal(headers("x-user: a"), bind),
		"both":               names.Principal(headers("authorization: a", "x-user: b"), bind),
		"two lines":          names.Principal(headers("authorization: a", "authorization: b"), bind),
		"two lines, turned":  names.Principal(headers("authorization: b", "authorization: a"), bind),
		"a header as a line": names.Principal(headers("authorization: x-user"), bind),
	}
	seen := map[string]string{}
	for what, name := range all {
		if twin, ok := seen[name]; ok {
			t.Errorf("%s has the name of %s", what, twin)
		}
		if strings.Contains(name, "session-one") {
			t.Errorf("%s shows the session's ID", what)
		}
		seen[name] = what
	}
	if names.Principal(headers("x-other: 1", "authorization: a"), bind) != all["principal"] {
		t.Error("what is not bound to must not matter")
	}
}
