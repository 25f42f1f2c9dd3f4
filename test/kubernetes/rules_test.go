package kubernetes_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	// stopBudget is the most that a stop takes beyond --drain-delay, as deploy/README.md says.
	stopBudget = 6 * time.Second
	// proxyID is the user and the group of istio-proxy.
	proxyID = 1337
	// gatewayID is the user and the group of Envoy Gateway's Envoy.
	gatewayID = 65532
)

// report takes one error.
type report func(format string, args ...any)

// errors holds manifests against the schemas and all the rules.
func errs(t *testing.T, known schemas, text []byte) []string {
	t.Helper()
	c, found := newCluster(t, known, text)
	add := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	binary := newFlags(t)
	for i := range c.workloads {
		w := &c.workloads[i]
		within := func(format string, args ...any) { add("%s: "+format, append([]any{w.name}, args...)...) }
		for _, container := range w.containers() {
			secure(&container, w.pod.Spec.SecurityContext, within)
			bounded(&container, within)
			trusting(w, &container, within)
		}
		ours, sidecar := w.bellhop()
		if ours == nil {
			within("no container is Bellhop's")
			continue
		}
		inForce, unknown := binary.of(ours)
		for _, what := range unknown {
			within("bellhop serve has no %s", what)
		}
		if ours.Image != "bellhop:dev" {
			within("the image is %s", ours.Image)
		}
		c.tokenless(w, ours, within)
		graceful(w, inForce, within)
		roomy(ours, inForce, within)
		probed(ours, inForce, within)
		c.policies(t, w, ours, inForce, within)
		secrets(t, w, ours, within)
		selectors(w, within)
		if sidecar {
			shared(w, ours, inForce, within)
		}
	}
	c.services(add)
	c.protections(add)
	c.names(add)
	return found
}

// tokenless: Bellhop asks nothing of Kubernetes.
func (c *cluster) tokenless(w *workload, ours *corev1.Container, fault report) {
	if _, ok := c.accounts[w.pod.Spec.ServiceAccountName]; !ok {
		fault("its service account %q is not there", w.pod.Spec.ServiceAccountName)
	}
	covered := slices.ContainsFunc(ours.VolumeMounts, func(m corev1.VolumeMount) bool {
		return m.MountPath == "/var/run/secrets/kubernetes.io/serviceaccount"
	})
	if auto := w.pod.Spec.AutomountServiceAccountToken; (auto == nil || *auto) && !covered {
		fault("Bellhop gets the pod's token")
	}
}

// graceful: a pod is not killed while Bellhop drains.
func graceful(w *workload, inForce map[string][]string, fault report) {
	delay, err := time.ParseDuration(inForce["drain-delay"][0])
	if err != nil {
		fault("--drain-delay: %v", err)
	}
	grace := 30 * time.Second
	if seconds := w.pod.Spec.TerminationGracePeriodSeconds; seconds != nil {
		grace = time.Duration(*seconds) * time.Second
	}
	if grace <= delay+stopBudget {
		fault("the grace period of %s does not cover a stop, which takes up to %s", grace, delay+stopBudget)
	}
}

// probed: Kubernetes asks what Bellhop answers, where it listens.
func probed(ours *corev1.Container, inForce map[string][]string, fault report) {
	host, admin, err := net.SplitHostPort(inForce["admin"][0])
	if err != nil {
		fault("--admin: %v", err)
		return
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsLoopback() {
		fault("--admin %s is on loopback, where no probe reaches it", host)
	}
	opened := []string{admin}
	if _, port, err := net.SplitHostPort(inForce["listen"][0]); err == nil &&
		!strings.HasPrefix(inForce["listen"][0], "unix:") {
		opened = append(opened, port)
	}
	for _, port := range ours.Ports {
		if !slices.Contains(opened, strconv.Itoa(int(port.ContainerPort))) {
			fault("no flag opens port %d", port.ContainerPort)
		}
	}
	for _, probe := range []struct {
		name, path string
		probe      *corev1.Probe
	}{
		{"startupProbe", "/readyz", ours.StartupProbe}, {"livenessProbe", "/livez", ours.LivenessProbe}, {"readinessProbe",
			"/readyz", ours.ReadinessProbe},
	} {
		if probe.probe == nil || probe.probe.HTTPGet == nil || probe.probe.HTTPGet.Path != probe.path {
			fault("%s does not ask for %s", probe.name, probe.path)
		} else if got := portOf(probe.probe.HTTPGet.Port, ours.Ports); got != admin {
			fault("%s asks port %q, and Bellhop listens on %s", probe.name, got, admin)
		}
	}
}

// policies: what --policy and --ceiling name is mounted, and bellhop check finds nothing in it.
func (c *cluster) policies(
	t *testing.T,
	w *workload,
	ours *corev1.Container,
	inForce map[string][]string,
	fault report,
) {
	t.Helper()
	under := t.TempDir()
	if err := c.mount(w, ours, under); err != nil {
		fault("%v", err)
	}
	args := []string{"check"}
	if ceiling := inForce["ceiling"][0]; ceiling != "" {
		args = append(args, "--ceiling", path.Join(under, ceiling))
	}
	fanouts := map[string]string{}
	for _, folder := range inForce["policy"] {
		found, err := documents(under, folder)
		if err != nil {
			fault("--policy: %v", err)
		}
		for _, file := range found {
			// Each by itself, as no two may be for one fan-out.
			if output, err := exec.CommandContext(t.Context(), bellhop, append(slices.Clone(args),
				file)...).CombinedOutput(); err != nil {
				fault("bellhop check: %v\n%s", err, output)
			}
			fanout := fanoutOf(t, file)
			if other, taken := fanouts[fanout]; taken {
				fault("%s and %s are both for fan-out %q", path.Base(other), path.Base(file), fanout)
			}
			fanouts[fanout] = file
		}
	}
	if file := inForce["key-file"][0]; file != "" {
		if _, err := documents(under, file); err != nil {
			fault("--key-file: %v", err)
		}
	}
}

// secrets: the READMEs make them, and only the group reads them.
func secrets(t *testing.T, w *workload, ours *corev1.Container, fault report) {
	t.Helper()
	readme, namespace := "deploy/kubernetes/README.md", "bellhop"
	if w.gateway() != nil {
		readme, namespace = "deploy/envoy-gateway/README.md", "envoy-gateway-system" // where the proxies are
	}
	text := read(t, readme)
	need := func(name string) {
		if !strings.Contains(text, "\nkubectl -n "+namespace+" create secret generic "+name+" ") {
			fault("no README makes Secret %s", name)
		}
	}
	for _, volume := range w.pod.Spec.Volumes {
		if volume.Secret == nil {
			continue
		}
		need(volume.Secret.SecretName)
		if mode := volume.Secret.DefaultMode; mode == nil || *mode&0o007 != 0 {
			fault("Secret %s is mounted with mode %s, which others can read", volume.Secret.SecretName, number(mode))
		}
	}
	for _, variable := range ours.Env {
		if variable.ValueFrom != nil && variable.ValueFrom.SecretKeyRef != nil {
			need(variable.ValueFrom.SecretKeyRef.Name)
		} else if variable.Name == "BELLHOP_STORE" {
			fault("BELLHOP_STORE, which holds a password, is not from a Secret")
		}
	}
}

// selectors: those of a workload mean its own pods.
func selectors(w *workload, fault report) {
	if w.selector != nil && !selects(w.selector, w.pod.Labels) {
		fault("Deployment %s selects other pods than its own", w.name)
	}
	for _, spread := range w.pod.Spec.TopologySpreadConstraints {
		if !selects(spread.LabelSelector, w.pod.Labels) {
			fault("the spread over %s counts other pods", spread.TopologyKey)
		}
	}
}

// shared: the proxy finds the socket of a sidecar, and may use it.
func shared(w *workload, ours *corev1.Container, inForce map[string][]string, fault report) {
	if ours.RestartPolicy == nil || *ours.RestartPolicy != corev1.ContainerRestartPolicyAlways {
		fault("restartPolicy is not Always, so it is no sidecar: the fan-out would wait for its end")
	}
	socket, ok := strings.CutPrefix(inForce["listen"][0], "unix://")
	if !ok {
		fault("a sidecar listens on a socket, and not on %s", inForce["listen"][0])
	}
	proxy := proxyMounts(w, fault)
	seen := slices.ContainsFunc(ours.VolumeMounts, func(m corev1.VolumeMount) bool {
		volume := w.volume(m.Name)
		return m.MountPath == path.Dir(socket) && !m.ReadOnly && volume != nil && volume.EmptyDir != nil &&
			proxy[m.Name] == m.MountPath
	})
	if !seen {
		fault("userVolumeMount, or Envoy's volumeMounts, do not give the proxy the folder of %s", socket)
	}
	if w.gateway() != nil {
		if own := ours.SecurityContext; own == nil || own.RunAsGroup == nil || *own.RunAsGroup != gatewayID {
			fault("Bellhop's group is not that of Envoy, which may then not use the socket")
		}
		return
	}
	if pod := w.pod.Spec.SecurityContext; pod == nil || pod.FSGroup == nil || *pod.FSGroup != proxyID {
		fault("fsGroup is not the proxy's, which may then not use the socket")
	}
	if w.pod.Annotations["sidecar.istio.io/nativeSidecar"] != "true" {
		fault("nativeSidecar is not true: the probes of Bellhop would wait for a proxy that waits for them")
	}
}

// proxyMounts says where the proxy has volumes: Istio's by an annotation, a gateway's Envoy by its own mounts.
func proxyMounts(w *workload, fault report) map[string]string {
	at := map[string]string{}
	if envoy := w.gateway(); envoy != nil {
		for _, m := range envoy.VolumeMounts {
			at[m.Name] = m.MountPath
		}
		return at
	}
	var mounts map[string]corev1.VolumeMount
	if err := json.Unmarshal([]byte(w.pod.Annotations["sidecar.istio.io/userVolumeMount"]), &mounts); err != nil {
		fault("userVolumeMount: %v", err)
	}
	for name, m := range mounts {
		at[name] = m.MountPath
	}
	return at
}

// services lead to pods, and monitors to services.
func (c *cluster) services(fault report) {
	for _, object := range c.objects {
		switch object := object.(type) {
		case *corev1.Service:
			pods := c.selected(&metav1.LabelSelector{MatchLabels: object.Spec.Selector})
			if len(pods) == 0 {
				fault("Service %s selects no pods", object.Name)
			}
			for _, w := range pods {
				for _, port := range object.Spec.Ports {
					if port.Name == "grpc" != (port.AppProtocol != nil && *port.AppProtocol == "grpc") {
						fault("Service %s: the appProtocol of port %s does not fit its name", object.Name, port.Name)
					}
					if !slices.ContainsFunc(w.containers(), func(container corev1.Container) bool {
						return portOf(port.TargetPort,
							container.Ports) != ""
					}) {
						fault("Service %s: no container has port %s", object.Name, port.TargetPort.String())
					}
				}
			}
		case *monitoringv1.ServiceMonitor:
			for _, endpoint := range object.Spec.Endpoints {
				if !slices.ContainsFunc(c.objects, func(other metav1.Object) bool {
					service, ok := other.(*corev1.Service)
					return ok && service.Namespace == object.Namespace && selects(&object.Spec.Selector, service.Labels) &&
						slices.ContainsFunc(service.Spec.Ports, func(port corev1.ServicePort) bool { return port.Name == endpoint.Port })
				}) {
					fault("ServiceMonitor %s finds no service with port %s", object.Name, endpoint.Port)
				}
			}
		}
	}
}

// names: all in one namespace, and those that change in place without a hash.
func (c *cluster) names(fault report) {
	for _, object := range c.objects {
		if _, cluster := object.(*corev1.Namespace); !cluster && object.GetNamespace() == "" {
			fault("%s has no namespace", object.GetName())
		}
	}
	for name := range c.configMaps {
		if strings.HasPrefix(name, "bellhop-") && regexp.MustCompile(`-[a-z0-9]{10}$`).MatchString(name) {
			fault("ConfigMap %s has a hash in its name: a change would restart Bellhop", name)
		}
	}
}

// selected lists the workloads whose pods a selector means.
func (c *cluster) selected(selector *metav1.LabelSelector) []*workload {
	var found []*workload
	for i := range c.workloads {
		if selects(selector, c.workloads[i].pod.Labels) {
			found = append(found, &c.workloads[i])
		}
	}
	return found
}

func selects(selector *metav1.LabelSelector, of map[string]string) bool {
	compiled, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && !compiled.Empty() && compiled.Matches(labels.Set(of))
}

// portOf is the number of a port that is named or numbered, or nothing where no container has it.
func portOf(port intstr.IntOrString, ports []corev1.ContainerPort) string {
	for _, one := range ports {
		if port.StrVal == one.Name && port.Type == intstr.String ||
			port.Type == intstr.Int && port.IntVal == one.ContainerPort {
			return strconv.Itoa(int(one.ContainerPort))
		}
	}
	return ""
}
