package kubernetes_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"
)

// cluster is what a set of manifests makes.
type cluster struct {
	objects    []metav1.Object
	workloads  []workload
	configMaps map[string]*corev1.ConfigMap // by name
	accounts   map[string]*corev1.ServiceAccount
}

// workload is what makes pods.
type workload struct {
	name     string
	replicas int32
	// selector is nil where an operator makes the Deployment.
	selector *metav1.LabelSelector
	pod      corev1.PodTemplateSpec
}

// operatorsPod is the pod that ToolHive's operator makes of a VirtualMCPServer, before it merges podTemplateSpec into
// it (deploymentForVirtualMCPServer of v0.44.0).
const operatorsPod = `
metadata:
  labels: {app: virtualmcpserver, toolhive: "true", toolhive-name: vmcp}
spec:
  terminationGracePeriodSeconds: 30
  serviceAccountName: vmcp-vmcp
  securityContext:
    {runAsNonRoot: true, runAsUser: 1000, runAsGroup: 1000, fsGroup: 1000, seccompProfile: {type: RuntimeDefault}}
  containers:
    - name: vmcp
      image: vmcp
      args: [serve, --config=/etc/vmcp-config/config.yaml, --host=0.0.0.0, --port=4483]
      ports: [{name: http, containerPort: 4483}]
      resources: {requests: {cpu: 100m, memory: 128Mi}, limits: {cpu: 500m, memory: 512Mi}}
      securityContext:
        privileged: false
        runAsNonRoot: true
        runAsUser: 1000
        runAsGroup: 1000
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        seccompProfile: {type: RuntimeDefault}
        capabilities: {drop: [ALL]}
`

// gatewaysPod is the pod that Envoy Gateway makes of a Gateway, as far as it matters here (v1.9.1). The examples call
// an EnvoyProxy as its Gateway.
const gatewaysPod = `
metadata:
  labels:
    app.kubernetes.io/managed-by: envoy-gateway
    gateway.envoyproxy.io/owning-gateway-namespace: tools
    gateway.envoyproxy.io/owning-gateway-name: %s
spec:
  automountServiceAccountToken: false
  serviceAccountName: envoy
  terminationGracePeriodSeconds: 360
  containers:
    - name: envoy
      image: envoy
`

// newCluster decodes manifests as strictly as can be, and says what does not fit.
func newCluster(t *testing.T, known schemas, text []byte) (*cluster, []string) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme, monitoringv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	strict := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	made := &cluster{configMaps: map[string]*corev1.ConfigMap{}, accounts: map[string]*corev1.ServiceAccount{}}
	var found []string
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		var raw unstructured.Unstructured
		text, err := yaml.YAMLToJSONStrict([]byte(document))
		if err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		if err := raw.UnmarshalJSON(text); err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		name := raw.GetKind() + " " + raw.GetName()
		if resource, ok := known[raw.GroupVersionKind()]; ok {
			for _, fault := range resource.errs(t, raw.Object) {
				found = append(found, name+": "+fault)
			}
			if err := made.addCustom(&raw); err != nil {
				found = append(found, name+": "+err.Error())
			}
			continue
		}
		object, _, err := strict.Decode([]byte(document), nil, nil)
		if err != nil {
			found = append(found, fmt.Sprintf("%s: %v", name, err))
			continue
		}
		made.add(object)
	}
	return made, found
}

func (c *cluster) add(object runtime.Object) {
	if named, ok := object.(metav1.Object); ok {
		c.objects = append(c.objects, named)
	}
	switch object := object.(type) {
	case *appsv1.Deployment:
		replicas := int32(1)
		if object.Spec.Replicas != nil {
			replicas = *object.Spec.Replicas
		}
		c.workloads = append(c.workloads, workload{object.Name, replicas, object.Spec.Selector, object.Spec.Template})
	case *corev1.ConfigMap:
		c.configMaps[object.Name] = object
	case *corev1.ServiceAccount:
		c.accounts[object.Name] = object
	}
}

// addCustom makes the pods that operators make of custom resources.
func (c *cluster) addCustom(object *unstructured.Unstructured) error {
	c.objects = append(c.objects, object)
	switch object.GetKind() {
	case "VirtualMCPServer":
		if headers, _, _ := unstructured.NestedStringSlice(object.Object, "spec", "passthroughHeaders"); len(headers) != 1 ||
			headers[0] != "x-bellhop-ticket" {
			return fmt.Errorf("passthroughHeaders is %q, want x-bellhop-ticket alone", headers)
		}
		return c.merge(object, operatorsPod, "spec", "podTemplateSpec")
	case "EnvoyProxy":
		order, _, _ := unstructured.NestedSlice(object.Object, "spec", "filterOrder")
		want := map[string]any{"name": "envoy.filters.http.ext_proc", "after": "envoy.filters.http.ratelimit"}
		if len(order) != 1 || !reflect.DeepEqual(order[0], want) {
			return fmt.Errorf("filterOrder is %v: Bellhop stands before authorization and rate limits", order)
		}
		return c.merge(object, fmt.Sprintf(gatewaysPod, object.GetName()),
			"spec", "provider", "kubernetes", "envoyDeployment", "patch", "value", "spec", "template")
	default:
		return nil
	}
}

// merge adds a pod that an operator makes, and into which it merges what stands at a path of its resource.
func (c *cluster) merge(object *unstructured.Unstructured, pod string, at ...string) error {
	template, _, err := unstructured.NestedMap(object.Object, at...)
	if err != nil {
		return err
	}
	patch, err := json.Marshal(template)
	if err != nil {
		return err
	}
	if err := yaml.UnmarshalStrict(patch, &corev1.PodTemplateSpec{}); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(at, "."), err)
	}
	base, err := yaml.YAMLToJSON([]byte(pod))
	if err != nil {
		return err
	}
	merged, err := strategicpatch.StrategicMergePatch(base, patch, corev1.PodTemplateSpec{})
	if err != nil {
		return err
	}
	w := workload{name: object.GetName(), replicas: 1}
	if err := json.Unmarshal(merged, &w.pod); err != nil {
		return err
	}
	c.workloads = append(c.workloads, w)
	c.accounts[w.pod.Spec.ServiceAccountName] = &corev1.ServiceAccount{}
	return nil
}

// containers are those of the pod, with the sidecars, and without the Envoy that a gateway's operator makes.
func (w *workload) containers() []corev1.Container {
	all := append(append([]corev1.Container(nil), w.pod.Spec.InitContainers...), w.pod.Spec.Containers...)
	return slices.DeleteFunc(all, func(c corev1.Container) bool { return c.Name == "envoy" })
}

// gateway is the Envoy that a gateway's operator makes, or nil.
func (w *workload) gateway() *corev1.Container {
	for i := range w.pod.Spec.Containers {
		if w.pod.Spec.Containers[i].Name == "envoy" {
			return &w.pod.Spec.Containers[i]
		}
	}
	return nil
}

// bellhop is the container that is ours, and whether it is a sidecar.
func (w *workload) bellhop() (container *corev1.Container, sidecar bool) {
	for i := range w.pod.Spec.InitContainers {
		if w.pod.Spec.InitContainers[i].Name == "bellhop" {
			return &w.pod.Spec.InitContainers[i], true
		}
	}
	for i := range w.pod.Spec.Containers {
		if w.pod.Spec.Containers[i].Name == "bellhop" {
			return &w.pod.Spec.Containers[i], false
		}
	}
	return nil, false
}

// volume is the one of a name, or nil.
func (w *workload) volume(name string) *corev1.Volume {
	for i := range w.pod.Spec.Volumes {
		if w.pod.Spec.Volumes[i].Name == name {
			return &w.pod.Spec.Volumes[i]
		}
	}
	return nil
}
