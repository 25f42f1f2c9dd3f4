// Package policy says which of a client's headers may be carried through a fan-out, and to which backends.
//
// It is pure: no network, no files, no clock. [Load] turns the text of a policy document into an immutable
// [Policy] or into every error it has; [Policy.Capture] picks the headers of a client's request that may be
// carried; [Policy.Decide] says what of them one request to one backend gets. Nothing here knows of Envoy, so the
// package can serve any proxy, and so can the tests.
package policy
