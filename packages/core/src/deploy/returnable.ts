import { isFinal, type Release } from './release.ts'

/** So many releases of an app can be returned to: their images, configuration and secrets are kept. */
export const RELEASES_RETURNABLE = 20

/**
 * The versions whose image must be kept: the newest 20 that were complete, the one that serves, those at work and what
 * they would return to.
 */
export function versionsKept(
  releases: readonly (Pick<Release, 'version' | 'status'> & Partial<Pick<Release, 'returnTo'>>)[],
  serving: number,
): ReadonlySet<number> {
  const complete = releases
    .filter(({ status }) => status === 'complete')
    .map(({ version }) => version)
    .sort((a, b) => b - a)
    .slice(0, RELEASES_RETURNABLE)
  const open = releases.filter(({ status }) => !isFinal(status))
  return new Set([
    serving,
    ...complete,
    ...open.flatMap(({ version, returnTo }) => [version, returnTo ?? 0]),
  ])
}
