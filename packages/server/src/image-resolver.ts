/** An image that a machine may run. */
export interface ResolvedImage {
  /** The reference with the name under which hosts pull it: `registry.internal/shop:v3`, `docker.io/library/debian:bookworm-slim`. */
  readonly image: string
  /** `sha256:…` of the manifest for this installation's architecture, or of the list that holds it. */
  readonly digest: string
}

/** What the server needs of the image store. Throws `image_not_found` for what it doesn't have. */
export interface ImageResolver {
  resolve(reference: string, signal?: AbortSignal): Promise<ResolvedImage>
}
