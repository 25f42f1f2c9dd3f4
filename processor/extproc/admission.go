package extproc

import (
	"context"
	"crypto/x509"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"bellhop/processor"
)

// Allowed reports whether a filter whose proxy has that certificate may name that fan-out.
type Allowed func(certificate *x509.Certificate, fanout string) bool

// admit returns the binding of a stream whose proxy may name its fan-out. An error is a [processor.Misconfiguration],
// unless the server lacks our options.
func (s *Service) admit(ctx context.Context) (processor.Binding, error) {
	binding, err := bindingOf(ctx)
	if err != nil || s.allowed == nil {
		return binding, err
	}
	fanout, err := s.core.Serves(binding.Fanout)
	if err != nil {
		return binding, err
	}
	if certificate := certificateOf(ctx); certificate == nil || !s.allowed(certificate, fanout) {
		return binding, misconfigured(
			"certificate",
			"the proxy's certificate may not name fan-out %q: give the filter its own bellhop-fanout, or serve with "+
				"--tls-allow and a pattern of the certificate's names", fanout,
		)
	}
	return binding, nil
}

// certificateOf is the verified certificate of a stream's proxy, or nil.
func certificateOf(ctx context.Context) *x509.Certificate {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := from.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return nil
	}
	return info.State.PeerCertificates[0]
}
