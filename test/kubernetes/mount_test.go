package kubernetes_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// mount lays out below a folder what a container has at its mount paths, as the kubelet does: files are links into a
// folder that is swapped as a whole. Of the secrets there is bellhop-keys.
func (c *cluster) mount(w *workload, container *corev1.Container, under string) error {
	var errs []error
	for _, m := range container.VolumeMounts {
		volume := w.volume(m.Name)
		if volume == nil {
			errs = append(errs, fmt.Errorf("%s is mounted and no volume", m.Name))
			continue
		}
		if m.SubPath != "" && volume.EmptyDir == nil {
			errs = append(errs, fmt.Errorf("%s is mounted with a subPath: what is in it would never change", m.Name))
		}
		files, err := c.files(volume)
		errs = append(errs, err)
		if err := project(filepath.Join(under, m.MountPath), files); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// files are those of a volume.
func (c *cluster) files(volume *corev1.Volume) (map[string]string, error) {
	all := map[string]string{}
	var errs []error
	take := func(name string, items []corev1.KeyToPath) {
		source, ok := c.configMaps[name]
		if !ok {
			errs = append(errs, fmt.Errorf("ConfigMap %s is not there", name))
			return
		}
		if len(items) == 0 {
			for key, text := range source.Data {
				all[key] = text
			}
		}
		for _, item := range items {
			text, ok := source.Data[item.Key]
			if _, taken := all[item.Path]; !ok || taken {
				errs = append(
					errs,
					fmt.Errorf("ConfigMap %s has no key %s, or another has taken %s", name, item.Key, item.Path),
				)
			}
			all[item.Path] = text
		}
	}
	switch {
	case volume.ConfigMap != nil:
		take(volume.ConfigMap.Name, volume.ConfigMap.Items)
	case volume.Projected != nil:
		for _, source := range volume.Projected.Sources {
			if source.ConfigMap == nil {
				errs = append(errs, fmt.Errorf("volume %s projects something else than ConfigMaps", volume.Name))
				continue
			}
			take(source.ConfigMap.Name, source.ConfigMap.Items)
		}
	case volume.Secret != nil && volume.Secret.SecretName == "bellhop-keys":
		key, err := exec.Command(bellhop, "keygen").Output()
		all["keys"] = string(key)
		errs = append(errs, err)
	}
	return all, errors.Join(errs...)
}

// project writes files into a folder the way the kubelet does, or swaps those that are there.
func project(folder string, files map[string]string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	data, err := os.MkdirTemp(folder, "..2026_")
	if err != nil {
		return err
	}
	if err := os.Chmod(data, 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(data, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	next := filepath.Join(folder, "..data_tmp")
	if err := os.Symlink(filepath.Base(data), next); err != nil {
		return err
	}
	if err := os.Rename(next, filepath.Join(folder, "..data")); err != nil {
		return err
	}
	for name := range files {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(folder, name)); err != nil &&
			!errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}

// documents lists what --policy names below a folder: a file, or the documents of a folder.
func documents(under, path string) ([]string, error) {
	path = filepath.Join(under, path)
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%s is not mounted", strings.TrimPrefix(path, under))
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	all, err := filepath.Glob(filepath.Join(path, "*.yaml"))
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%s is empty", strings.TrimPrefix(path, under))
	}
	return all, err
}

// fanoutOf is the name in a policy.
func fanoutOf(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Fanout string `json:"fanout"`
	}
	_ = yaml.Unmarshal(text, &document) // bellhop check has said what is wrong with it
	return document.Fanout
}
