package envoy

import (
	"cmp"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// serverTLS verifies the server by the host of its URL.
func (w *bootstrapWriter) serverTLS(path string, t Target) *corev3.TransportSocket {
	w.Note(path, "The server must prove that it is "+t.Host+". By default Envoy checks nothing.")
	return w.tls(&tlsv3.UpstreamTlsContext{
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams:             versions(tlsv3.TlsParameters_TLSv1_2),
			ValidationContextType: verify(w.trustedCA, t.Place),
		},
		Sni: sni(t.Place),
	})
}

// bellhopTLS is nil where Bellhop is on this machine and nothing was asked for.
func (w *Writer) bellhopTLS(path string) *corev3.TransportSocket {
	if w.identity == nil {
		return nil
	}
	w.Note(path, "Mutual TLS. Envoy reads these files at its start only.")
	var places []Place
	name := ""
	for _, e := range w.Bellhop {
		places = append(places, e.Place)
		name = cmp.Or(name, sni(e.Place))
	}
	return w.tls(&tlsv3.UpstreamTlsContext{
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams: versions(tlsv3.TlsParameters_TLSv1_3),
			TlsCertificates: []*tlsv3.TlsCertificate{
				{CertificateChain: file(w.identity.cert), PrivateKey: file(w.identity.key)},
			},
			ValidationContextType: verify(w.identity.ca, places...),
			AlpnProtocols:         []string{"h2"},
		},
		Sni: name,
	})
}

func (w *Writer) tls(context *tlsv3.UpstreamTlsContext) *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name:       "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: w.Pack(context)},
	}
}

// versions has to name 1.3: as a client, Envoy offers 1.2 at most by itself.
func versions(least tlsv3.TlsParameters_TlsProtocol) *tlsv3.TlsParameters {
	return &tlsv3.TlsParameters{TlsMinimumProtocolVersion: least, TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3}
}

// verify trusts a certificate of the CA that is made out to one of the places.
func verify(ca string, places ...Place) *tlsv3.CommonTlsContext_ValidationContext {
	context := &tlsv3.CertificateValidationContext{TrustedCa: file(ca)}
	for _, p := range places {
		kind := tlsv3.SubjectAltNameMatcher_DNS
		if p.IP.IsValid() {
			kind = tlsv3.SubjectAltNameMatcher_IP_ADDRESS
		}
		context.MatchTypedSubjectAltNames = append(
			context.MatchTypedSubjectAltNames,
			&tlsv3.SubjectAltNameMatcher{SanType: kind, Matcher: exactly(p.Host)},
		)
	}
	return &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: context}
}

// sni is the name that the server is asked for. An IP address must not stand there (RFC 6066, 3).
func sni(p Place) string {
	if p.IP.IsValid() {
		return ""
	}
	return p.Host
}

func file(name string) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: name}}
}
