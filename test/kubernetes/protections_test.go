package kubernetes_test

import (
	"reflect"
	"slices"
	"strconv"

	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// protections: budgets and network policies are for pods that are there, and let through what has to get through.
func (c *cluster) protections(fault report) {
	for _, object := range c.objects {
		switch object := object.(type) {
		case *policyv1.PodDisruptionBudget:
			pods := c.selected(object.Spec.Selector)
			if len(pods) == 0 || object.Spec.MaxUnavailable == nil || object.Spec.MaxUnavailable.IntVal >= pods[0].replicas {
				fault("PodDisruptionBudget %s keeps nothing up", object.Name)
			}
		case *networkingv1.NetworkPolicy:
			pods := c.selected(&object.Spec.PodSelector)
			if len(pods) == 0 && !reflect.DeepEqual(object.Spec.PodSelector, fanoutPods) {
				fault("NetworkPolicy %s selects no pods", object.Name)
			}
			for _, w := range pods {
				opens(object, w, fault)
			}
		}
	}
	c.onlyWay(fault)
}

// opens: what it opens is what Bellhop and its proxy listen on.
func opens(object *networkingv1.NetworkPolicy, w *workload, fault report) {
	ours, _ := w.bellhop()
	if ours == nil {
		return
	}
	var open []string
	for _, rule := range object.Spec.Ingress {
		for _, port := range rule.Ports {
			open = append(open, port.Port.String())
		}
	}
	var want []string
	if w.gateway() != nil {
		want = []string{"8081", "19001"} // and Envoy's own metrics
	}
	for _, port := range ours.Ports {
		want = append(want, strconv.Itoa(int(port.ContainerPort)))
	}
	slices.Sort(want)
	slices.Sort(open)
	if !slices.Equal(open, want) {
		fault("NetworkPolicy %s opens %v, want %v", object.Name, open, want)
	}
}

// The pods between which a request passes where Bellhop stands at Envoy Gateway's proxies.
var (
	fanoutPods  = metav1.LabelSelector{MatchLabels: map[string]string{"app": "vmcp"}}
	gatewayPods = func(name string) metav1.LabelSelector {
		return metav1.LabelSelector{MatchLabels: map[string]string{
			"gateway.envoyproxy.io/owning-gateway-namespace": "tools", "gateway.envoyproxy.io/owning-gateway-name": name,
		}}
	}
)

// onlyWay: no one can bypass the gateways to the fan-out, and only the fan-out can reach the gateway that redeems
// tickets.
func (c *cluster) onlyWay(fault report) {
	if !slices.ContainsFunc(c.workloads, func(w workload) bool { return w.gateway() != nil }) {
		return
	}
	for _, way := range []struct {
		to, from               metav1.LabelSelector
		toNamespace, fromSpace string
		port                   string
		who                    string
	}{
		{fanoutPods, gatewayPods("mcp"), "tools", "envoy-gateway-system", "4483", "show the fan-out their headers"},
		{gatewayPods("mcp-egress"), fanoutPods, "envoy-gateway-system", "tools", "8081", "redeem tickets"},
	} {
		peer := networkingv1.NetworkPolicyPeer{
			NamespaceSelector: &metav1.LabelSelector{
				MatchLabels: map[string]string{"kubernetes.io/metadata.name": way.fromSpace},
			}, PodSelector: &way.from,
		}
		guarded := false
		for _, object := range c.objects {
			policy, ok := object.(*networkingv1.NetworkPolicy)
			if !ok || policy.Namespace != way.toNamespace || !reflect.DeepEqual(policy.Spec.PodSelector, way.to) {
				continue
			}
			guarded = slices.Equal(policy.Spec.PolicyTypes, []networkingv1.PolicyType{networkingv1.PolicyTypeIngress})
			for _, rule := range policy.Spec.Ingress {
				opened := slices.ContainsFunc(rule.Ports, func(p networkingv1.NetworkPolicyPort) bool {
					return p.Port == nil || p.EndPort != nil || p.Port.String() == way.port
				})
				if (opened || len(rule.Ports) == 0) && !reflect.DeepEqual(rule.From, []networkingv1.NetworkPolicyPeer{peer}) {
					fault("NetworkPolicy %s lets others %s", policy.Name, way.who)
				}
			}
		}
		if !guarded {
			fault("no NetworkPolicy says who may %s", way.who)
		}
	}
}
