//go:build !race

package e2e

// raceDetector builds Bellhop as the tests themselves are built.
const raceDetector = false
