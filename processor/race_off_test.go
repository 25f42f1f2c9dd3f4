//go:build !race

package processor_test

const raced = false
