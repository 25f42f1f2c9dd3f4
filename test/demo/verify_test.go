package main

import (
	"slices"
	"strings"
	"testing"

	"bellhop/policy"
)

func TestVerifyFindsNothingWrong(t *testing.T) {
	if errs := verify(sampleWith()); len(errs) != 0 {
		t.Errorf("errors in good evidence: %q", errs)
	}
}

func TestVerifyFindsWhatIsWrong(t *testing.T) {
	// In the sample, 0 and 1 are requests that no client caused; then come two calls of
	// alice and two of bob, a whoami and an echo each.
	cases := map[string]struct {
		spoil func(e *evidence)
		want  string
	}{
		"key at vMCP": {
			func(e *evidence) { e.atFanout[0].Header.Set(keyHeader, "alice-key") }, "vMCP, initialize from alice: holds a key"},
		"key in a body at vMCP": {
			func(e *evidence) { e.atFanout[3].Body = []byte("x bob-key x") }, "vMCP, tools/call from bob: holds a key"},
		"no ticket": {
			func(e *evidence) { e.atFanout[0].Header.Del(policy.TicketHeader) }, "holds 0 tickets"},
		"one ticket for two": {
			func(e *evidence) { e.atFanout[2].Header.Set(policy.TicketHeader, "alice0123456789") }, "holds the ticket of alice"},
		"nothing at vMCP": {
			func(e *evidence) { e.atFanout = nil }, "vMCP got no request"},
		"ticket at a backend": {
			func(e *evidence) { e.atBackend[notes][0].Header.Set(policy.TicketHeader, "x") }, "notes, server/discover: " +
				"holds a ticket"},
		"ticket in baggage": {
			func(e *evidence) { e.atBackend[notes][0].Header.Set("baggage", "bellhop=alice0123456789") }, "under another name"},
		"ticket in a body": {
			func(e *evidence) { e.atBackend[billing][2].Body = []byte("bob0123456789") }, "under another name"},
		"unknown key": {
			func(e *evidence) { e.atBackend[notes][0].Header.Set(keyHeader, "x") }, "holds an unknown key"},
		"two keys": {
			func(e *evidence) { e.atBackend[notes][2].Header.Add(keyHeader, "bob-key") }, "holds an unknown key, or several"},
		"call without a key": {
			func(e *evidence) { e.atBackend[notes][2].Header.Del(keyHeader) }, "a client's call came with the key of: none"},
		"call with the discovery key": {
			func(e *evidence) { e.atBackend[billing][2].Header.Set(keyHeader, discoveryKey) }, "a client's call came with the " +
				"key of: discovery"},
		"discovery key elsewhere": {
			func(e *evidence) { e.atBackend[notes][0].Header.Set(keyHeader, discoveryKey) }, "the discovery key of " +
				"another backend"},
		"no key at the strict backend": {
			func(e *evidence) { e.atBackend[billing][0].Header.Del(keyHeader) }, "billing, initialize: came without a key"},
		"crossed keys": {
			func(e *evidence) { e.atBackend[billing][3].Header.Set(keyHeader, "bob-key") }, "the call of alice came with " +
				"the key of bob"},
		"key changes in a session": {
			func(e *evidence) { e.atBackend[billing][2].Header.Set(keyHeader, "bob-key") }, "a session of bob came with the " +
				"key of alice"},
		"lost call": {
			func(e *evidence) { e.atBackend[notes] = e.atBackend[notes][:5] }, "notes got 1 tool calls with the key " +
				"of bob, not 2"},
		"failed call": {
			func(e *evidence) { e.answers[2].failed, e.answers[2].text = true, "sorry" }, "alice, notes_echo: sorry"},
		"tool saw another key": {
			func(e *evidence) { e.answers[1].header.Set(keyHeader, "bob-key") }, "did not see the key of its caller"},
		"lost answer": {
			func(e *evidence) { e.answers = e.answers[1:] }, "9 answers came, not 10"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			e := sampleWith()
			c.spoil(&e)
			errs := verify(e)
			if !slices.ContainsFunc(errs, func(fault string) bool { return strings.Contains(fault, c.want) }) {
				t.Errorf("errors %q, want one with %q", errs, c.want)
			}
		})
	}
}
