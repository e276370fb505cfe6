/**
 * The repository that an image reference names, in full and without tag or digest: `debian:bookworm-slim` is of
 * `docker.io/library/debian`. The first part is a registry when it has a dot or a port or is `localhost`, as at Docker.
 */
export function imageRepository(reference: string): string {
  const undigested = reference.split('@')[0] ?? ''
  const slash = undigested.lastIndexOf('/')
  const colon = undigested.indexOf(':', slash + 1)
  const untagged = colon === -1 ? undigested : undigested.slice(0, colon)
  const first = untagged.split('/')[0] ?? ''
  const hasRegistry = untagged.includes('/') && /[.:]|^localhost$/.test(first)
  if (hasRegistry) return untagged
  return `docker.io/${untagged.includes('/') ? '' : 'library/'}${untagged}`
}
