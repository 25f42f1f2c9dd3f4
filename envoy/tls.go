package envoy

import (
	"cmp"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// serverTLS verifies the server by the host of its URL.
func (w *bootstrapWriter) serverTLS(path string, t target) *corev3.TransportSocket {
	w.note(path, "The server has to prove that it is "+t.host+". Envoy by itself would check nothing.")
	return w.tls(&tlsv3.UpstreamTlsContext{
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams:             versions(tlsv3.TlsParameters_TLSv1_2),
			ValidationContextType: verify(w.trustedCA, t.place),
		},
		Sni: sni(t.place),
	})
}

// bellhopTLS is nil where Bellhop is on this machine and nothing was asked for.
func (w *writer) bellhopTLS(path string) *corev3.TransportSocket {
	if w.identity == nil {
		return nil
	}
	w.note(path, "Both sides prove who they are. Envoy reads these files at its start only.")
	var places []place
	name := ""
	for _, e := range w.bellhop {
		places = append(places, e.place)
		name = cmp.Or(name, sni(e.place))
	}
	return w.tls(&tlsv3.UpstreamTlsContext{
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams:             versions(tlsv3.TlsParameters_TLSv1_3),
			TlsCertificates:       []*tlsv3.TlsCertificate{{CertificateChain: file(w.identity.cert), PrivateKey: file(w.identity.key)}},
			ValidationContextType: verify(w.identity.ca, places...),
			AlpnProtocols:         []string{"h2"},
		},
		Sni: name,
	})
}

func (w *writer) tls(context *tlsv3.UpstreamTlsContext) *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: w.pack(context)},
	}
}

// versions has to name 1.3: as a client, Envoy offers 1.2 at most by itself.
func versions(least tlsv3.TlsParameters_TlsProtocol) *tlsv3.TlsParameters {
	return &tlsv3.TlsParameters{TlsMinimumProtocolVersion: least, TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3}
}

// verify trusts a certificate of the CA that is made out to one of the places.
func verify(ca string, places ...place) *tlsv3.CommonTlsContext_ValidationContext {
	context := &tlsv3.CertificateValidationContext{TrustedCa: file(ca)}
	for _, p := range places {
		kind := tlsv3.SubjectAltNameMatcher_DNS
		if p.ip.IsValid() {
			kind = tlsv3.SubjectAltNameMatcher_IP_ADDRESS
		}
		context.MatchTypedSubjectAltNames = append(context.MatchTypedSubjectAltNames, &tlsv3.SubjectAltNameMatcher{SanType: kind, Matcher: exactly(p.host)})
	}
	return &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: context}
}

// sni is the name that the server is asked for. An IP address must not stand there (RFC 6066, 3).
func sni(p place) string {
	if p.ip.IsValid() {
		return ""
	}
	return p.host
}

func file(name string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: name}}
}
