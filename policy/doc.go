// Package policy decides which of a client's headers may be carried through a fan-out, and to which backends.
//
// It is pure: no network, no files, no clock. [Load] compiles the text of a policy document into an immutable [Policy],
// or returns every error in it; [Policy.Capture] captures the headers of a client's request that may be carried;
// [Policy.Decide] says which of them one request to one backend gets; [Policy.Explain] says why. Nothing here depends
// on Envoy, so the package can serve any proxy.
package policy
