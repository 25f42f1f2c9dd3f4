// Package envoy writes Envoy configuration that puts Bellhop on both sides of a fan-out.
//
// What Envoy may show to Bellhop and what Bellhop may change is derived from the policy, so Envoy itself enforces the
// same allowlist. The messages are the typed ones of go-control-plane, checked by their own rules before they are
// written as YAML; README.md beside this file says why each setting is as it is.
package envoy
