package istio

import (
	"bytes"

	"bellhop/envoy"

	"github.com/goccy/go-yaml"
)

// manifest is one Kubernetes resource with the comments in it.
type manifest struct {
	kind, version string
	name          string
	namespace     string
	annotations   yaml.MapSlice
	spec          any
	notes         envoy.Notes
}

// fields makes an object of keys and values in turn, which keeps their order. What is nil is left out.
func fields(pairs ...any) yaml.MapSlice {
	var object yaml.MapSlice
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != nil {
			object = append(object, yaml.MapItem{Key: pairs[i], Value: pairs[i+1]})
		}
	}
	return object
}

// list makes a list of one or more values.
func list(values ...any) []any { return values }

func (m manifest) document() yaml.MapSlice {
	metadata := fields("name", envoy.Scalar(m.name), "namespace", envoy.Scalar(m.namespace))
	if m.annotations != nil {
		metadata = append(metadata, yaml.MapItem{Key: "annotations", Value: m.annotations})
	}
	return fields("apiVersion", m.version, "kind", m.kind, "metadata", metadata, "spec", m.spec)
}

// renderAll writes manifests one after the other, as kubectl takes them.
func renderAll(title string, manifests []manifest) ([]byte, error) {
	out := bytes.NewBuffer(envoy.Headed(title))
	for i, m := range manifests {
		if i > 0 {
			out.WriteString("---\n")
		}
		body, err := envoy.Write(m.document(), m.notes)
		if err != nil {
			return nil, err
		}
		out.Write(body)
	}
	return out.Bytes(), nil
}
