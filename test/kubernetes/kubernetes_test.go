// Package kubernetes_test holds what deploy/ gives to Kubernetes, compose and systemd against their own types and
// schemas, and against the binary. It is a module of its own, for those types are many.
package kubernetes_test

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// root is the project's folder, seen from this package.
const root = "../.."

// bellhop is the binary of this tree.
var bellhop string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	folder, err := os.MkdirTemp("", "bellhop")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(folder) }()
	if err := os.Chmod(folder, 0o755); err != nil { // Bellhop is run as another user, too
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	bellhop = filepath.Join(folder, "bellhop")
	command := exec.Command("go", "build", "-o", bellhop, "./cmd/bellhop")
	command.Dir = root
	command.Stderr = os.Stderr
	if err := command.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build Bellhop:", err)
		return 1
	}
	return m.Run()
}

// overlays use the components, as their README says.
var overlays = map[string]string{
	"service with metrics and a shared store": `
resources: [deploy/kubernetes/service]
components: [deploy/kubernetes/metrics, deploy/kubernetes/shared-store]
`,
	"mesh with metrics": `
resources: [deploy/kubernetes/mesh]
components: [deploy/kubernetes/metrics]
`,
}

// sets builds every kustomization and every overlay above.
func sets(t *testing.T) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, folder := range folders(t, "Kustomization") {
		all[folder] = kustomize(t, folder)
	}
	for name, overlay := range overlays {
		all[name] = build(t, overlay)
	}
	return all
}

// folders lists where a kustomization of a kind is.
func folders(t *testing.T, kind string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(filepath.Join(root, "deploy"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Base(path) != "kustomization.yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), "\nkind: "+kind+"\n") {
			folder, _ := filepath.Rel(root, filepath.Dir(path))
			found = append(found, folder)
		}
		return err
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("%d kustomizations of kind %s, %v", len(found), kind, err)
	}
	return found
}

// build makes an overlay whose paths begin at the project's folder.
func build(t *testing.T, overlay string) []byte {
	t.Helper()
	folder := t.TempDir()
	deploy, err := filepath.Abs(filepath.Join(root, "deploy"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(folder, "deploy"), os.DirFS(deploy)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "kustomization.yaml"), []byte(overlay), 0o600); err != nil {
		t.Fatal(err)
	}
	return kustomizeIn(t, folder)
}

func kustomize(t *testing.T, folder string) []byte {
	t.Helper()
	return kustomizeIn(t, filepath.Join(root, folder))
}

func kustomizeIn(t *testing.T, folder string) []byte {
	t.Helper()
	options := krusty.MakeDefaultOptions()
	options.LoadRestrictions = types.LoadRestrictionsRootOnly // as kubectl has it
	made, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		t.Fatalf("%s: %v", folder, err)
	}
	text, err := made.AsYaml()
	if err != nil {
		t.Fatalf("%s: %v", folder, err)
	}
	return text
}

func TestEveryKustomizationIsValid(t *testing.T) {
	schemas := newSchemas(t)
	for name, text := range sets(t) {
		t.Run(name, func(t *testing.T) {
			for _, fault := range errs(t, schemas, text) {
				t.Error(fault)
			}
		})
	}
}

func TestEveryComponentIsUsed(t *testing.T) {
	used := map[string]bool{}
	use := func(folder, text string) {
		var kustomization types.Kustomization
		if err := yaml.Unmarshal([]byte(text), &kustomization); err != nil {
			t.Fatal(err)
		}
		for _, component := range kustomization.Components {
			used[filepath.Join(folder, component)] = true
		}
	}
	for _, overlay := range overlays {
		use(".", overlay)
	}
	for _, folder := range folders(t, "Kustomization") {
		use(folder, read(t, filepath.Join(folder, "kustomization.yaml")))
	}
	for _, folder := range folders(t, "Component") {
		if !used[folder] {
			t.Errorf("nothing uses %s, so nothing tests it", folder)
		}
	}
}

// Each rule notices what it is for: one thing in a manifest is made wrong.
func TestEveryRuleCanFail(t *testing.T) {
	schemas := newSchemas(t)
	all := sets(t)
	const (
		service, example = "deploy/kubernetes/service", "deploy/kubernetes/example"
		mesh, toolhive   = "deploy/kubernetes/mesh", "deploy/kubernetes/toolhive"
		gateway          = "deploy/envoy-gateway"
	)
	for _, c := range []struct{ name, set, old, bad, want string }{
		{"a field that is not there", service, "enableServiceLinks:", "enableServiceLink:",
			`unknown field "spec.template.spec.enableServiceLink"`},
		{"a field of the wrong type", service, "replicas: 2", `replicas: "two"`, "replicas"},
		{"an unknown kind", service, "kind: PodDisruptionBudget", "kind: PodDisruption", "PodDisruption"},
		{"root", service, "runAsUser: 65532", "runAsUser: 0", "runs as user 0"},
		{"the proxy's user", example, "runAsUser: 65532", "runAsUser: 1337", "runs as user 1337"},
		{"the proxy's group", example, "runAsGroup: 65532", "runAsGroup: 1337", "runs as group 1337"},
		{"may be root", service, "runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot"},
		{"a root that can be written", example, "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false",
			"readOnlyRootFilesystem"},
		{"more privileges", service, "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true",
			"allowPrivilegeEscalation"},
		{"a capability kept", service, "- ALL", "- NET_RAW", "capabilities"},
		{"no seccomp", service, "type: RuntimeDefault", "type: Unconfined", "seccomp"},
		{"another image", toolhive, "image: bellhop:dev", "image: example.com/bellhop", "image"},
		{"a token", service, "serviceAccountName: bellhop\n      " +
			"terminationGracePeriodSeconds", "terminationGracePeriodSeconds", "service account"},
		{"a token in the pod", service, "automountServiceAccountToken: false\n      containers", "containers", "token"},
		{"a token where the " +
			"fan-out has one", toolhive, "mountPath: /var/run/secrets/kubernetes.io/serviceaccount", "mountPath: /var/run/none",
			"token"},
		{"no memory limit", service, "limits:\n            memory: 256Mi", "limits: {}", "memory"},
		{"a memory limit above the container's", service, "value: 224MiB", "value: 512MiB", "GOMEMLIMIT"},
		{"a flag that is not there", service, "--drain-delay=5s", "--drain=5s", "--drain"},
		{"an environment variable that is not there", mesh, "BELLHOP_CEILING", "BELLHOP_CEILINGS", "BELLHOP_CEILINGS"},
		{"a grace period too short", service, "terminationGracePeriodSeconds: 30", "terminationGracePeriodSeconds: 11",
			"grace"},
		{"a drain too long", example, "--drain-delay=0s", "--drain-delay=24s", "grace"},
		{"a probe of another port", service, "path: /livez\n            port: http-admin", "path: /livez\n          " +
			"  port: grpc", "livenessProbe"},
		{"a probe of a path that is not there", example, "path: /livez", "path: /healthz", "livenessProbe"},
		{"a probe of a port that is closed", example, "--admin=0.0.0.0:9902", "--admin=127.0.0.1:9902", "loopback"},
		{"a port that no flag opens", service, "containerPort: 9902", "containerPort: 9903", "9903"},
		{"no probe at the start", example, "startupProbe:", "livenessProbe2:", "livenessProbe2"},
		{"a deployment of other pods", service, "selector:\n    matchLabels:\n      app: " +
			"bellhop\n  strategy", "selector:\n    matchLabels:\n      app: other\n  strategy", "Deployment bellhop selects"},
		{"a service of other pods", service, "selector:\n    app: bellhop", "selector:\n    app: other",
			"Service bellhop selects"},
		{"a service of no port", service, "targetPort: grpc", "targetPort: http2", "http2"},
		{"a service that Istio takes for TCP", service, "appProtocol: grpc", "appProtocol: tcp", "appProtocol"},
		{"a network policy that " +
			"shuts Bellhop off", service, "- port: 9000\n      protocol", "- port: 9001\n      protocol", "NetworkPolicy"},
		{"a network policy of other pods", service, "podSelector:\n    matchLabels:\n      app: bellhop", "podSelector:\n  " +
			"  matchLabels:\n      app: other", "NetworkPolicy bellhop selects"},
		{"a budget that protects nothing", service, "maxUnavailable: 1\n  selector", "maxUnavailable: " +
			"2\n  selector", "PodDisruptionBudget"},
		{"a spread of other pods", service, "- labelSelector:\n          matchLabels:\n            " +
			"app: bellhop", "- labelSelector:\n          matchLabels:\n            app: other", "spread"},
		{"a folder that nothing " +
			"is mounted at", service, "--policy=/etc/bellhop/policy", "--policy=/etc/bellhop/policies", "/etc/bellhop/policies"},
		{"a config map that is not there", service, "configMap:\n          name: bellhop-policy", "configMap:\n          " +
			"name: policy", "ConfigMap"},
		{"a config map with a hash in its name", service, "name: bellhop-policy", "name: bellhop-policy-g4hmhb4k2t", "hash"},
		{"a secret that no README makes", service, "secretName: bellhop-keys", "secretName: keys", "Secret keys"},
		{"a secret of another page's", gateway, "secretName: bellhop-keys", "secretName: bellhop-store",
			"Secret bellhop-store"},
		{"a single file, which never changes", service, "name: policy\n          readOnly", "name: policy\n          " +
			"subPath: policy.yaml\n          readOnly", "subPath"},
		{"a policy with a fault", service, "- x-mcp-api-key", "- host", "host"},
		{"a team above the ceiling", mesh, "- x-mcp-api-key", "- x-internal-key", "x-internal-key"},
		{"two teams for one fan-out", mesh, "fanout: research", "fanout: sales", "sales"},
		{"a key that is not in the config map", mesh, "- key: sales.yaml", "- key: sale.yaml", "sale.yaml"},
		{"keys that all users can read", service, "defaultMode: 288", "defaultMode: 292", "292"},
		{"a socket that the proxy does not see", example, `{"bellhop":{`, `{"other":{`, "userVolumeMount"},
		{"a socket elsewhere " +
			"in the proxy", toolhive, `"mountPath":"/run/bellhop"`, `"mountPath":"/run/other"`, "userVolumeMount"},
		{"a socket of another group", example, "fsGroup: 1337", "fsGroup: 1000", "fsGroup"},
		{"a proxy that starts later", toolhive, `nativeSidecar: "true"`, `nativeSidecar: "false"`, "nativeSidecar"},
		{"a sidecar that ends before the " +
			"fan-out starts", example, "restartPolicy: Always", "restartPolicy: null", "restartPolicy"},
		{"a field that ToolHive does not know", toolhive, "passthroughHeaders:", "passThroughHeaders:", "passThroughHeaders"},
		{"a value that ToolHive does not take", toolhive, "transport: streamable-http", "transport: stdio", "transport"},
		{"a field in ToolHive's pod that Kubernetes " +
			"does not know", toolhive, "initContainers:", "initContainer:", "initContainer"},
		{"a vMCP that drops the ticket", toolhive, "- x-bellhop-ticket", "- x-ticket", "x-bellhop-ticket"},
		{"a store that takes all the memory", example, "--store-bytes=33554432", "--store-bytes=67108864", "a third"},
		{"a store that does not exist", "service with metrics and a " +
			"shared store", "name: SSL_CERT_FILE", "name: SSL_CERTS", "SSL_CERT_FILE"},
		{"roots at another place", "service with metrics and a " +
			"shared store", "path: ca.crt", "path: ca.pem", "SSL_CERT_FILE"},
		{"a monitor of other services", "mesh with metrics", "- interval: 15s\n    path: /metrics\n    " +
			"port: http-admin", "- interval: 15s\n    path: /metrics\n    port: metrics", "ServiceMonitor"},
		{"a field that Prometheus' operator " +
			"does not know", "mesh with metrics", "interval: 15s", "intervall: 15s", "intervall"},
		{"a field that Envoy Gateway does not know", gateway, "statusOnError:", "statusOnFailure:", "statusOnFailure"},
		{"a value that Envoy Gateway does not take", gateway, "statusOnError: 503", "statusOnError: 200", "statusOnError"},
		{"a rule of Envoy Gateway's own that is broken", gateway, "kind: Backend\n      name: bellhop", "kind: Gateway\n   " +
			"   name: bellhop", "only supports Service"},
		{"a field that the Gateway API does not know", gateway, "replacePrefixMatch:", "replacePrefix:", "replacePrefix"},
		{"a socket that Envoy does not see", gateway, "- mountPath: /run/bellhop\n                      name: bellhop\n    " +
			"                  readOnly: true", "- mountPath: /run/other\n                      name: bellhop\n               " +
			"       readOnly: true", "volumeMounts"},
		{"Bellhop before authorization", gateway, "after: envoy.filters.http.ratelimit", "after: envoy.filters.http.cors",
			"filterOrder"},
		{"a socket of another group than Envoy's", gateway, "runAsGroup: 65532", "runAsGroup: 1000", "group"},
		{"an egress gateway open to all", gateway, "- from:\n    - namespaceSelector:\n        matchLabels:\n          " +
			"kubernetes.io/metadata.name: tools\n      podSelector:\n        matchLabels:\n          app: " +
			"vmcp\n    ports:", "- ports:", "redeem"},
		{"an egress gateway for all pods", gateway, "- namespaceSelector:\n        matchLabels:\n          " +
			"kubernetes.io/metadata.name: tools\n      podSelector:\n        matchLabels:\n       " +
			"   app: vmcp", "- namespaceSelector: {}", "redeem"},
		{"a second way to the egress gateway", gateway, "- ports:\n    - port: 9902", "- ports:\n    - port: 8081\n      " +
			"protocol: TCP\n  - ports:\n    - port: 9902", "redeem"},
		{"a fan-out open to all", gateway, "  name: vmcp\n  namespace: tools\nspec:\n  ingress:\n  - from:\n    - " +
			"namespaceSelector:", "  name: vmcp\n  namespace: tools\nspec:\n  ingress:\n  - from:\n    - podSelector: {}\n    " +
			"- namespaceSelector:", "show the fan-out"},
		{"no policy for the fan-out", gateway, "podSelector:\n    matchLabels:\n      app: vmcp\n " +
			" policyTypes", "podSelector:\n    matchLabels:\n      app: other\n  policyTypes", "show the fan-out"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := string(all[c.set])
			if !strings.Contains(text, c.old) {
				t.Fatalf("%s has no %q", c.set, c.old)
			}
			found := errs(t, schemas, []byte(strings.ReplaceAll(text, c.old, c.bad)))
			if !slices.ContainsFunc(found, func(fault string) bool { return strings.Contains(fault, c.want) }) {
				t.Errorf("not noticed; the errors are %q", found)
			}
		})
	}
}

// The pods of ToolHive's vMCP are those of any other fan-out.
func TestToolHivesPodMatchesTheComponent(t *testing.T) {
	_, component, _ := strings.Cut(read(t, "deploy/kubernetes/sidecar/sidecar.yaml"), "  template:\n")
	if component == "" ||
		!strings.HasSuffix(read(t, "deploy/kubernetes/toolhive/vmcp.yaml"), "  podTemplateSpec:\n"+component) {
		t.Error("podTemplateSpec in toolhive/vmcp.yaml is not the template in sidecar/sidecar.yaml: copy it")
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
