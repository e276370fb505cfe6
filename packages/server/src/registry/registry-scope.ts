import type { Action, AppName } from '@roost/core'
import type { RegistryAccess } from './registry-tokens.ts'

/** Whoever shows a valid credential to the image store's token service. */
export type RegistryBearer =
  /** A person or script, by Roost token. */
  | { readonly kind: 'token'; may(action: Action, app: AppName | null): boolean }
  /** A program of ours that was given a token for some repositories and asks for another of them. */
  | { readonly kind: 'granted'; readonly access: readonly RegistryAccess[] }

const MIRROR = 'docker.io/'
const SCOPES_MAX = 20

/** `repository:shop:pull,push`, as docker and buildah ask; several in one text or in several. What is no such scope is passed over. */
export function parseScopes(scope: string | readonly string[] | undefined): RegistryAccess[] {
  const texts = (scope === undefined ? [] : typeof scope === 'string' ? [scope] : scope)
    .flatMap((text) => text.split(' '))
    .slice(0, SCOPES_MAX)
  return texts.flatMap((text) => {
    const match = /^repository:([a-z0-9][a-z0-9._/-]{0,254}):([a-z,*]+)$/.exec(text)
    if (match === null) return []
    const asked = new Set((match[2] ?? '').split(','))
    const actions = (['pull', 'push', 'delete'] as const).filter(
      (action) => asked.has(action) || asked.has('*'),
    )
    return [{ repository: match[1] ?? '', actions }]
  })
}

/**
 * What of that the bearer gets. The mirror is readable by everyone with a credential and writable by whoever may push
 * to every app; an app's repository follows the policy for the app.
 */
export function grantedAccess(
  asked: readonly RegistryAccess[],
  bearer: RegistryBearer,
): RegistryAccess[] {
  return asked
    .map(({ repository, actions }) => ({
      repository,
      actions: actions.filter((action) => isGranted(repository, action, bearer)),
    }))
    .filter(({ actions }) => actions.length > 0)
}

function isGranted(
  repository: string,
  action: RegistryAccess['actions'][number],
  bearer: RegistryBearer,
): boolean {
  const mirrored = repository.startsWith(MIRROR)
  if (mirrored && action === 'pull') return true
  if (bearer.kind === 'granted')
    return bearer.access.some(
      (own) => own.repository === repository && own.actions.includes(action),
    )
  const needed = action === 'pull' ? 'registry:pull' : 'registry:push'
  return bearer.may(needed, mirrored ? null : (repository as AppName))
}
