// Package ticket issues and redeems tickets, and reads and writes them in the carriers in which they cross the fan-out.
//
// A stored ticket names the content of a capture: it is a MAC over it, so the same headers have the same ticket on
// every replica that holds the key, and no one without the key can forge one. The capture itself is in a [Store]. A
// sealed ticket is the capture itself, encrypted deterministically, and needs no store.
package ticket
