package kubernetes_test

import (
	"path"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// secure: nothing that a container does not need.
func secure(c *corev1.Container, pod *corev1.PodSecurityContext, fault report) {
	own := c.SecurityContext
	if own == nil {
		own = &corev1.SecurityContext{}
	}
	if pod == nil {
		pod = &corev1.PodSecurityContext{}
	}
	if nonRoot := either(own.RunAsNonRoot, pod.RunAsNonRoot); nonRoot == nil || !*nonRoot {
		fault("%s: runAsNonRoot is not set", c.Name)
	}
	if user := either(own.RunAsUser, pod.RunAsUser); user == nil || *user == 0 || *user == proxyID {
		fault("%s runs as user %s", c.Name, number(user))
	}
	if group := either(own.RunAsGroup, pod.RunAsGroup); group == nil || *group == 0 || *group == proxyID {
		fault("%s runs as group %s", c.Name, number(group))
	}
	if own.ReadOnlyRootFilesystem == nil || !*own.ReadOnlyRootFilesystem {
		fault("%s: readOnlyRootFilesystem is not set", c.Name)
	}
	if own.AllowPrivilegeEscalation == nil || *own.AllowPrivilegeEscalation {
		fault("%s: allowPrivilegeEscalation is not false", c.Name)
	}
	if own.Capabilities == nil || !slices.Equal(own.Capabilities.Drop, []corev1.Capability{"ALL"}) ||
		len(own.Capabilities.Add) > 0 {
		fault("%s keeps capabilities", c.Name)
	}
	if seccomp := either(own.SeccompProfile, pod.SeccompProfile); seccomp == nil ||
		seccomp.Type != corev1.SeccompProfileTypeRuntimeDefault {
		fault("%s has no seccomp profile", c.Name)
	}
}

// bounded: what a container asks for, and where it ends.
func bounded(c *corev1.Container, fault report) {
	limit := c.Resources.Limits.Memory()
	if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || limit.IsZero() {
		fault("%s does not say how much memory and CPU it needs", c.Name)
	}
	for _, variable := range c.Env {
		if variable.Name != "GOMEMLIMIT" {
			continue
		}
		soft, err := resource.ParseQuantity(strings.TrimSuffix(variable.Value, "B"))
		if err != nil || soft.Cmp(*limit) >= 0 {
			fault("%s: GOMEMLIMIT %s is not below the limit of %s", c.Name, variable.Value, limit)
		}
	}
}

// roomy: what the store may hold is a third of the memory at most. The rest is for requests, and for what is not
// collected yet.
func roomy(ours *corev1.Container, inForce map[string][]string, fault report) {
	store, err := strconv.ParseInt(inForce["store-bytes"][0], 10, 64)
	if err != nil {
		fault("--store-bytes: %v", err)
	}
	if limit := ours.Resources.Limits.Memory().Value(); store > limit/3 {
		fault("--store-bytes %d is more than a third of the limit of %d", store, limit)
	}
}

// trusting: a store that is spoken to by TLS can prove who it is, for the image has no roots.
func trusting(w *workload, c *corev1.Container, fault report) {
	file, store := "", false
	for _, variable := range c.Env {
		if variable.Name == "SSL_CERT_FILE" {
			file = variable.Value
		}
		store = store || variable.Name == "BELLHOP_STORE"
	}
	mounted := slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
		volume := w.volume(m.Name)
		return m.MountPath == path.Dir(file) && volume != nil && volume.Secret != nil &&
			slices.ContainsFunc(volume.Secret.Items, func(item corev1.KeyToPath) bool { return item.Path == path.Base(file) })
	})
	if store && !mounted {
		fault("%s: SSL_CERT_FILE is no file of a Secret, so no store can be known by its certificate", c.Name)
	}
}

// either is the container's setting, else the pod's.
func either[T any](own, pod *T) *T {
	if own != nil {
		return own
	}
	return pod
}

func number[T int32 | int64](n *T) string {
	if n == nil {
		return "not set"
	}
	return strconv.FormatInt(int64(*n), 10)
}
