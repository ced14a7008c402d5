package remote

import (
	"cmp"
	"context"
	"slices"

	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// maxMetadataBytes bounds the answers to Metadata and Status.
const maxMetadataBytes = 16 << 20

// signatureField is the only metadata field of TensorFlow Serving.
const signatureField = "signature_def"

// Metadata describes one version on the server.
type Metadata struct {
	Version    int64 // NoVersion: the server does not report it
	Signatures map[string]savedmodel.Signature
}

// Metadata returns the signatures of the version that would answer a batch with the same
// Version and Label. It takes at most fallback.budget. A success does not close the
// breaker, since it does not prove that the server answers batches.
func (c *Client) Metadata(ctx context.Context, version int64, label string) (Metadata, error) {
	ctx, cancel := c.withBudget(ctx)
	defer cancel()
	choice := c.choose(Batch{Version: version, Label: label})
	var (
		response tfpb.GetModelMetadataResponse
		metadata Metadata
	)
	err := c.callWithRetries(ctx, call{
		op: "metadata", method: metadataMethod, choice: choice,
		request: &tfpb.GetModelMetadataRequest{
			ModelSpec: c.modelSpec(choice, ""), MetadataField: []string{signatureField},
		},
		response: &response, maxBytes: maxMetadataBytes,
		read: func(string) error {
			field, ok := response.GetMetadata()[signatureField]
			if !ok {
				return c.badAnswer("metadata", "no field %q", signatureField)
			}
			var signatures tfpb.SignatureDefMap
			if err := field.UnmarshalTo(&signatures); err != nil {
				return c.badAnswer("metadata", "%s: %v", signatureField, err)
			}
			metadata = Metadata{
				Version:    versionIn(response.GetModelSpec()),
				Signatures: savedmodel.SignaturesOf(signatures.GetSignatureDef()),
			}
			return c.checkVersion("metadata", version, metadata.Version)
		},
	})
	if err != nil {
		return Metadata{}, asRefused(err)
	}
	return metadata, nil
}

// A VersionStatus is the state of a version on the server.
type VersionStatus struct {
	Version int64
	State   string // TensorFlow Serving's: START, LOADING, AVAILABLE, UNLOADING or END
	Err     string // why the version has failed; empty: it has not
}

// Status returns the versions that the server knows, the highest first. It takes at most
// fallback.budget.
func (c *Client) Status(ctx context.Context) ([]VersionStatus, error) {
	ctx, cancel := c.withBudget(ctx)
	defer cancel()
	var response tfpb.GetModelStatusResponse
	err := c.callWithRetries(ctx, call{
		op: "status", method: statusMethod, choice: versionChoice{version: NoVersion},
		request:  &tfpb.GetModelStatusRequest{ModelSpec: &tfpb.ModelSpec{Name: c.config.Model}},
		response: &response, maxBytes: maxMetadataBytes,
		read: func(string) error { return nil },
	})
	if err != nil {
		return nil, asRefused(err)
	}
	var versions []VersionStatus
	for _, v := range response.GetModelVersionStatus() {
		versions = append(versions, VersionStatus{
			v.GetVersion(), v.GetState().String(), OneLine(v.GetStatus().GetErrorMessage()),
		})
	}
	slices.SortFunc(versions, func(a, b VersionStatus) int { return cmp.Compare(b.Version, a.Version) })
	return versions, nil
}
