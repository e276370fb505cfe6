import type { RegistryRepository } from './registry.ts'

/**
 * Where an image may be, best first: our own registry holds what was deployed (`registry.internal/shop`) and, under their
 * full names, mirrored public images (`docker.io/library/debian`); those are then asked for at their home too.
 */
export function placesOf(
  repository: string,
  own: {
    readonly name: string
    readonly url: string
    readonly ca: string
    readonly token: (repository: string, signal: AbortSignal) => Promise<string>
  },
): readonly RegistryRepository[] {
  const slash = repository.indexOf('/')
  const host = repository.slice(0, slash)
  const path = repository.slice(slash + 1)
  const ours = (inner: string): RegistryRepository => ({
    name: repository,
    url: own.url,
    path: inner,
    ca: own.ca,
    token: (signal) => own.token(inner, signal),
  })
  if (host === own.name) return [ours(path)]
  const home = host === 'docker.io' ? 'https://registry-1.docker.io' : `https://${host}`
  return [ours(repository), { name: repository, url: home, path, ca: null, token: null }]
}
