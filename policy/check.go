package policy

import (
	"fmt"
	"slices"
	"strings"
)

// The highest values of the limits. Envoy accepts at most 100 headers and 60 KiB in one request; the rest is for the
// headers that the fan-out sends itself.
const (
	maxHeaders    = 80
	maxPrefix     = 256 // bytes
	maxTotalBytes = 48 << 10
	maxRules      = 48
)

// checker reports what is well-formed but not allowed.
type checker struct {
	*recorder
	places map[string]Position
}

// errorAt reports an error unless the value there could not be decoded: that error is already reported.
func (c *checker) errorAt(at Position, hint, format string, args ...any) {
	if !c.unread[at] {
		c.recorder.errorAt(at, hint, format, args...)
	}
}

func (c *checker) at(format string, args ...any) Position {
	return c.places[fmt.Sprintf(format, args...)]
}

func (c *checker) document(doc *Document) {
	c.version(doc.Version, "the policy")
	if _, ok := c.places["fanout"]; ok && !ValidLabel(doc.Fanout) {
		c.errorAt(c.at("fanout"), labelHint, "%q cannot be the name of a fan-out", doc.Fanout)
	}
	c.forward(doc)
	c.backends(doc.Backends)
	c.reachable(doc)
	c.destinations(doc)
	c.limits(doc.Limits)
	c.ticket(doc)
	c.session(doc)
}

func (c *checker) version(version int, what string) {
	if _, ok := c.places["version"]; !ok {
		c.errorAt(Position{}, "add the line: version: 1", "%s has no version", what)
	} else if version != Version {
		c.errorAt(c.at("version"), "write version: 1", "version %d is not known", version)
	}
}

func (c *checker) backends(backends []Backend) {
	if backends != nil && len(backends) == 0 {
		c.errorAt(
			c.at("backends"), "declare at least one, or take the line out to mean every backend behind the filter",
			"backends is empty: no backend would get anything",
		)
	}
	owner := make(map[string]string)
	for _, backend := range backends {
		path := "backends." + backend.Name
		if !ValidLabel(backend.Name) {
			c.errorAt(c.at("%s", path), labelHint, "%q cannot be the name of a backend", backend.Name)
		}
		for i, cluster := range backend.Clusters {
			at := c.at("%s.clusters[%d]", path, i)
			if cluster == "" {
				c.errorAt(at, "write the cluster's name as Envoy has it", "the cluster name is empty")
			} else if other, taken := owner[cluster]; taken {
				c.errorAt(at, "a cluster is one backend only", "cluster %q already belongs to backend %q", cluster, other)
			}
			owner[cluster] = backend.Name
		}
		c.discovery(path, backend.Discovery)
	}
}

// reachable warns of backends without clusters, and of rules whose backends all have none.
func (c *checker) reachable(doc *Document) {
	const hint = "list its Envoy clusters under clusters: (not needed where each filter or route sets " +
		"bellhop-backend, as bellhop envoy does)"
	var lost []string
	for _, backend := range doc.Backends {
		if len(backend.Clusters) == 0 {
			lost = append(lost, backend.Name)
			c.warnOf(
				TopicClusters, c.at("backends.%s", backend.Name), hint,
				"backend %q has no clusters: only a filter or route with bellhop-backend: %s identifies it", backend.Name,
				backend.Name,
			)
		}
	}
	if len(lost) == len(doc.Backends) {
		return // metadata names the backends
	}
	for i, rule := range doc.Forward {
		if len(rule.To) > 0 &&
			!slices.ContainsFunc(rule.To, func(to string) bool { return !slices.Contains(lost, to) }) {
			c.warnOf(
				TopicClusters, c.at("forward[%d]", i), "give its backends clusters:",
				"no backend of this rule has clusters: %q may reach none of them", rule.Name,
			)
		}
	}
}

func (c *checker) discovery(path string, identities []Identity) {
	for i, identity := range identities {
		at := fmt.Sprintf("%s.discovery[%d]", path, i)
		if _, ok := c.places[at+".name"]; !ok {
			c.errorAt(
				c.at("%s", at), "add name: with the header that the backend reads", "the discovery header has no name",
			)
		} else {
			c.oneName(c.at("%s.name", at), identity.Name, "name")
		}
		if identity.File == "" {
			c.errorAt(
				c.at("%s", at), "add file: with the path of a file that holds the value", "the discovery header has no file",
			)
		}
		c.prefix(at, identity.Prefix)
		if slices.ContainsFunc(identities[:i], func(other Identity) bool { return other.Name == identity.Name }) {
			c.errorAt(c.at("%s", at), "keep one of the two", "the discovery header %q is listed twice", identity.Name)
		}
	}
}

func (c *checker) limits(limits Limits) {
	for _, limit := range limits.all() {
		c.inRange(limit.path, *limit.value, limit.most)
	}
	if _, ok := c.places["limits.value_bytes"]; ok && limits.ValueBytes > limits.TotalBytes {
		c.errorAt(
			c.at("limits.value_bytes"), "raise total_bytes too, or lower this", "value_bytes is above total_bytes (%d)",
			limits.TotalBytes,
		)
	}
}

func (c *checker) inRange(path string, value, most int) {
	if value < 1 || value > most {
		c.errorAt(
			c.at("%s", path),
			fmt.Sprintf(
				"write a number from 1 to %d: Envoy accepts 100 headers and 60 KiB in one request, its own included",
				most,
			),
			"%s: %d is out of range",
			path,
			value,
		)
	}
}

const labelHint = "use 1 to 63 letters, digits, '.', '_' or '-', and begin with a letter or digit"

// ValidLabel reports whether name can stand in metadata, in a path and as a metric label.
func ValidLabel(name string) bool {
	if name == "" || len(name) > 63 || strings.IndexByte("._-", name[0]) >= 0 {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

func declared(backends []Backend) string {
	if len(backends) == 0 {
		return "none is declared"
	}
	all := make([]string, len(backends))
	for i, backend := range backends {
		all[i] = backend.Name
	}
	return "declared: " + strings.Join(all, ", ")
}
