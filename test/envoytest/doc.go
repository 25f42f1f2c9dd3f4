// Package envoytest is Envoy for tests: it starts the real one, and plays its side of the external processing protocol
// where that is enough. What it plays is checked against the real Envoy by a test of this package.
package envoytest
