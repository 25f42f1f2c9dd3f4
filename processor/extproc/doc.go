// Package extproc speaks Envoy's external processing protocol: it turns the messages of a stream into requests to
// package processor, and its answers into the one legal reply to each message.
//
// Envoy opens one stream for each HTTP request. Envoy's access log service is here too, because it reports
// which sessions a fan-out no longer knows.
package extproc
