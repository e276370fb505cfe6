import { PlatformError } from '@roost/base'
import type { Host } from '@roost/core'
import type { RegistryTokens } from './registry-tokens.ts'

/** `POST /internal/v1/registry-token`: agents pull what they are told to run; only builders push. */
export async function agentRegistryToken(
  tokens: RegistryTokens,
  host: Pick<Host, 'id' | 'name' | 'builder'>,
  asked: { readonly repository: string; readonly push: boolean },
): Promise<{ token: string; expires_at: string }> {
  if (!/^[a-z0-9][a-z0-9._/-]{0,254}$/.test(asked.repository))
    throw new PlatformError('invalid', `repository ${JSON.stringify(asked.repository)}`)
  // The mirror is an administrator's: a builder runs other people's programs.
  if (asked.push && (!host.builder || asked.repository.startsWith('docker.io/')))
    throw new PlatformError('forbidden', `host ${host.name} may not push ${asked.repository}`)
  const { token, expiresAt } = await tokens.issue({
    subject: `agent/${host.id}`,
    access: [{ repository: asked.repository, actions: asked.push ? ['pull', 'push'] : ['pull'] }],
  })
  return { token, expires_at: new Date(expiresAt).toISOString() }
}
