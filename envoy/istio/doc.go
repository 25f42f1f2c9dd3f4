// Package istio writes the manifests that put Bellhop on both sides of a fan-out in an Istio mesh: the EnvoyFilter with
// the filters of package envoy, and what the set-up needs of Istio's other resources.
package istio
