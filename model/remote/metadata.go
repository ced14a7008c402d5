package remote

import (
	"context"
	"slices"

	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// maxMetadataBytes bounds the answers to Metadata and Status.
const maxMetadataBytes = 16 << 20

// signatureField is the only metadata that TensorFlow Serving has.
const signatureField = "signature_def"

// Metadata is what the server says of one version.
type Metadata struct {
	Version    int64 // that it is about; NoVersion: the server does not tell
	Signatures map[string]savedmodel.Signature
}

// Metadata asks for the signatures of the version that would answer a batch
// with the same Version and Label, in fallback.budget at most. A success does
// not close the breaker, for it does not show that batches are answered.
func (c *Client) Metadata(ctx context.Context, version int64, label string) (Metadata, error) {
	ctx, cancel := c.budget(ctx)
	defer cancel()
	spec := c.spec(Batch{Version: version, Label: label})
	var (
		response tfpb.GetModelMetadataResponse
		metadata Metadata
	)
	err := c.within(ctx, call{
		op: "metadata", method: metadataMethod, spec: spec,
		request:  &tfpb.GetModelMetadataRequest{ModelSpec: c.modelSpec(spec, ""), MetadataField: []string{signatureField}},
		response: &response, maxBytes: maxMetadataBytes,
		read: func(string) error {
			field, ok := response.GetMetadata()[signatureField]
			if !ok {
				return c.badAnswer("metadata", "it has no %q", signatureField)
			}
			var signatures tfpb.SignatureDefMap
			if err := field.UnmarshalTo(&signatures); err != nil {
				return c.badAnswer("metadata", "%s: %v", signatureField, err)
			}
			metadata = Metadata{told(response.GetModelSpec()), savedmodel.SignaturesOf(signatures.GetSignatureDef())}
			return c.checkVersion("metadata", version, metadata.Version)
		},
	})
	if err != nil {
		return Metadata{}, asRefused(err)
	}
	return metadata, nil
}

// A VersionStatus is what the server says of a version that it knows.
type VersionStatus struct {
	Version int64
	State   string // START, LOADING, AVAILABLE, UNLOADING or END, as TensorFlow Serving has them
	Err     string // why, where it failed
}

// Status asks for the versions that the server knows, the highest first, in
// fallback.budget at most.
func (c *Client) Status(ctx context.Context) ([]VersionStatus, error) {
	ctx, cancel := c.budget(ctx)
	defer cancel()
	var response tfpb.GetModelStatusResponse
	err := c.within(ctx, call{
		op: "status", method: statusMethod, spec: asked{version: NoVersion},
		request:  &tfpb.GetModelStatusRequest{ModelSpec: &tfpb.ModelSpec{Name: c.config.Model}},
		response: &response, maxBytes: maxMetadataBytes,
		read: func(string) error { return nil },
	})
	if err != nil {
		return nil, asRefused(err)
	}
	var versions []VersionStatus
	for _, v := range response.GetModelVersionStatus() {
		versions = append(versions, VersionStatus{v.GetVersion(), v.GetState().String(), OneLine(v.GetStatus().GetErrorMessage())})
	}
	slices.SortFunc(versions, func(a, b VersionStatus) int { return int(max(min(b.Version-a.Version, 1), -1)) })
	return versions, nil
}
