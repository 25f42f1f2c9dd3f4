package main

import (
	"debug/buildinfo"
	"os"
	"path"
	"runtime/debug"
	"strings"

	cyclonedx "github.com/CycloneDX/cyclonedx-go"
	"github.com/package-url/packageurl-go"
)

// writeSBOM lists what a binary is made of, as the Go tool has written it into it.
func writeSBOM(binary, file string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	list := cyclonedx.NewBOM()
	list.Metadata = &cyclonedx.Metadata{Component: component(cyclonedx.ComponentTypeApplication, info.Path, "")}
	components := []cyclonedx.Component{
		*component(cyclonedx.ComponentTypeLibrary, "std", strings.TrimPrefix(info.GoVersion, "go")),
	}
	for _, module := range info.Deps {
		components = append(components, *library(module))
	}
	list.Components = &components
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := cyclonedx.NewBOMEncoder(out, cyclonedx.BOMFileFormatJSON).SetPretty(true).Encode(list); err != nil {
		_ = out.Close()
		return err
	}
	return out.Close()
}

// library is a module, or its replacement.
func library(module *debug.Module) *cyclonedx.Component {
	for module.Replace != nil {
		module = module.Replace
	}
	made := component(cyclonedx.ComponentTypeLibrary, module.Path, module.Version)
	if module.Sum != "" {
		made.Properties = &[]cyclonedx.Property{{Name: "go:sum", Value: module.Sum}}
	}
	return made
}

func component(kind cyclonedx.ComponentType, name, version string) *cyclonedx.Component {
	namespace, last := path.Split(name)
	url := packageurl.NewPackageURL(packageurl.TypeGolang, strings.TrimSuffix(namespace, "/"), last, version, nil, "").
		ToString()
	return &cyclonedx.Component{BOMRef: url, Type: kind, Name: name, Version: version, PackageURL: url}
}
