package pilot

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// Request is what authorisation looks at.
type Request struct {
	Principal string // in the caller's certificate; empty: it has none
	Port      uint32
	Headers   map[string]string // in lower case, :authority among them
	Token     bool              // a client's token, which has been found to be sound
}

// Authorised says whether a filter chain's authorisation lets a request through, as Envoy decides it. The error is for
// rules of a kind that is not known here.
func Authorised(chain *listenerv3.FilterChain, request Request) (bool, error) {
	for _, filter := range Manager(chain).GetHttpFilters() {
		config := &rbacv3.RBAC{}
		if !filter.GetTypedConfig().MessageIs(config) {
			continue
		}
		if err := filter.GetTypedConfig().UnmarshalTo(config); err != nil {
			return false, err
		}
		matched := false
		for _, policy := range config.GetRules().GetPolicies() {
			one, err := request.matches(policy)
			if err != nil {
				return false, err
			}
			matched = matched || one
		}
		if matched != (config.GetRules().GetAction() == rbacconfigv3.RBAC_ALLOW) && config.GetRules() != nil {
			return false, nil
		}
	}
	return true, nil
}

func (r Request) matches(policy *rbacconfigv3.Policy) (bool, error) {
	allowed, err := anyOf(policy.GetPermissions(), r.permitted)
	if err != nil || !allowed {
		return false, err
	}
	return anyOf(policy.GetPrincipals(), r.is)
}

func (r Request) permitted(p *rbacconfigv3.Permission) (bool, error) {
	switch rule := p.GetRule().(type) {
	case *rbacconfigv3.Permission_Any:
		return rule.Any, nil
	case *rbacconfigv3.Permission_AndRules:
		return allOf(rule.AndRules.GetRules(), r.permitted)
	case *rbacconfigv3.Permission_OrRules:
		return anyOf(rule.OrRules.GetRules(), r.permitted)
	case *rbacconfigv3.Permission_NotRule:
		return not(r.permitted(rule.NotRule))
	case *rbacconfigv3.Permission_DestinationPort:
		return rule.DestinationPort == r.Port, nil
	case *rbacconfigv3.Permission_Header:
		return r.has(rule.Header)
	default:
		return false, fmt.Errorf("a permission of the kind %T", rule)
	}
}

func (r Request) is(p *rbacconfigv3.Principal) (bool, error) {
	switch rule := p.GetIdentifier().(type) {
	case *rbacconfigv3.Principal_Any:
		return rule.Any, nil
	case *rbacconfigv3.Principal_AndIds:
		return allOf(rule.AndIds.GetIds(), r.is)
	case *rbacconfigv3.Principal_OrIds:
		return anyOf(rule.OrIds.GetIds(), r.is)
	case *rbacconfigv3.Principal_NotId:
		return not(r.is(rule.NotId))
	case *rbacconfigv3.Principal_Authenticated_:
		return fits(rule.Authenticated.GetPrincipalName(), r.Principal, r.Principal != "")
	case *rbacconfigv3.Principal_Metadata:
		return r.Token, nil
	case *rbacconfigv3.Principal_Header:
		return r.has(rule.Header)
	default:
		return false, fmt.Errorf("a principal of the kind %T", rule)
	}
}

func (r Request) has(header *routev3.HeaderMatcher) (bool, error) {
	value, present := r.Headers[header.GetName()]
	switch rule := header.GetHeaderMatchSpecifier().(type) {
	case *routev3.HeaderMatcher_PresentMatch:
		return rule.PresentMatch == present, nil
	case *routev3.HeaderMatcher_StringMatch:
		return fits(rule.StringMatch, value, present)
	default:
		return false, fmt.Errorf("a header of the kind %T", rule)
	}
}

func fits(matcher *matcherv3.StringMatcher, text string, present bool) (bool, error) {
	if matcher.GetIgnoreCase() {
		text = strings.ToLower(text)
	}
	switch rule := matcher.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		return present && text == rule.Exact, nil
	case *matcherv3.StringMatcher_Prefix:
		return present && strings.HasPrefix(text, rule.Prefix), nil
	case *matcherv3.StringMatcher_Suffix:
		return present && strings.HasSuffix(text, rule.Suffix), nil
	case *matcherv3.StringMatcher_SafeRegex:
		whole, err := regexp.Compile("^(?:" + rule.SafeRegex.GetRegex() + ")$")
		return err == nil && present && whole.MatchString(text), err
	default:
		return false, fmt.Errorf("a text of the kind %T", rule)
	}
}

func not(is bool, err error) (bool, error) { return !is, err }

func anyOf[T any](all []T, holds func(T) (bool, error)) (found bool, failed error) {
	found = slices.ContainsFunc(all, func(one T) bool {
		is, err := holds(one)
		if err != nil {
			failed = err
		}
		return is
	})
	return found, failed
}

func allOf[T any](all []T, holds func(T) (bool, error)) (bool, error) {
	found, err := anyOf(all, func(one T) (bool, error) { return not(holds(one)) })
	return !found, err
}
