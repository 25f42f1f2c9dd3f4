// Package processor is Bellhop's Envoy external processing service.
//
// Envoy opens one stream for each HTTP request. On the client's side of a fan-out (the ingress role) the service
// takes the headers that the policy carries off the request and puts a ticket in their place; on the backends' side
// (the egress role) it takes the ticket off and puts back what this backend may have.
//
// Only wire.go and reply.go know how Envoy writes a request and an answer; what is decided is decided by package
// policy.
package processor
