package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"bellhop/processor/server/files"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/tls/certprovider/pemfile"
	"google.golang.org/grpc/security/advancedtls"
)

// TLS names the files of mutual TLS: all three, or none. They are reloaded when they change.
type TLS struct {
	Cert     string // PEM certificate chain of this server
	Key      string // PEM private key of Cert
	ClientCA string // PEM roots that sign the certificates of the proxies
}

// refresh is how often the files are checked for changes.
const refresh = time.Minute

func (t TLS) given() bool { return t != TLS{} }

// credentials makes the server's side of mutual TLS, or nil where no files are given.
func (t TLS) credentials(reader *files.Reader) (credentials.TransportCredentials, error) {
	if !t.given() {
		return nil, nil //nolint:nilnil // no TLS is not an error
	}
	if t.Cert == "" || t.Key == "" || t.ClientCA == "" {
		return nil, errors.New("--tls-cert, --tls-key and --tls-client-ca go together; give all three")
	}
	// The providers below report a bad file only at the first handshake; an operator wants to know now.
	if err := t.loads(reader); err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	roots, err := reader.Read(t.ClientCA, files.MaxPEM)
	if err != nil {
		return nil, fmt.Errorf("--tls-client-ca: %w", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(roots) {
		return nil, fmt.Errorf(
			"--tls-client-ca %s: holds no PEM certificate; name the file with the roots that sign the proxies' certificates",
			t.ClientCA,
		)
	}
	identity, err := pemfile.NewProvider(pemfile.Options{CertFile: t.Cert, KeyFile: t.Key, RefreshDuration: refresh})
	if err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	authorities, err := pemfile.NewProvider(pemfile.Options{RootFile: t.ClientCA, RefreshDuration: refresh})
	if err != nil {
		return nil, fmt.Errorf("--tls-client-ca: %w", err)
	}
	return advancedtls.NewServerCreds(&advancedtls.Options{
		IdentityOptions:   advancedtls.IdentityCertificateOptions{IdentityProvider: identity},
		RootOptions:       advancedtls.RootCertificateOptions{RootProvider: authorities},
		RequireClientCert: true,
		VerificationType:  advancedtls.CertVerification,
		MinTLSVersion:     tls.VersionTLS12,
		MaxTLSVersion:     tls.VersionTLS13,
	})
}

// loads returns why the certificate and its key cannot be used, or nil.
func (t TLS) loads(reader *files.Reader) error {
	certificate, err := reader.Read(t.Cert, files.MaxPEM)
	if err != nil {
		return err
	}
	key, err := reader.Read(t.Key, files.MaxPEM)
	if err != nil {
		return err
	}
	_, err = tls.X509KeyPair(certificate, key)
	return err
}
