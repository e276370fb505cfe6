import { type ProgramWord, registryTokenReply, VERSION, type WatchEvent } from '@roost/api'
import { createPeerClient, lifeOf, type PeerClient, systemClock } from '@roost/base'
import type { ControlPlane, Heard } from '../control-plane.ts'

/** The server over mTLS: it must show the server's certificate, and sees ours. */
export function createServerClient(options: {
  readonly url: string
  readonly tls: { readonly ca: string; readonly certificate: string; readonly key: string }
}): ControlPlane & Pick<PeerClient, 'close'> {
  const peer = createPeerClient({ ...options, expect: 'roost://server' })
  const { expiresAt } = lifeOf(options.tls.certificate)
  const word = (): ProgramWord => ({
    version: VERSION,
    clock: systemClock.now(),
    certificate_expires_at: expiresAt,
  })
  return {
    watch: (since, signal) =>
      peer.lines<WatchEvent>('GET', `/internal/v1/watch?since=${since}`, { signal }),
    report: (statuses, signal) =>
      peer.json<Heard>('POST', '/internal/v1/statuses', { statuses }, { signal }),
    heartbeat: (beat, signal) =>
      peer.json<void>('POST', '/internal/v1/heartbeat', { ...beat, program: word() }, { signal }),
    async registryToken(repository, push, signal) {
      const body = { repository, push }
      const reply = await peer.json('POST', '/internal/v1/registry-token', body, { signal })
      return registryTokenReply.parse(reply).token
    },
    close: () => peer.close(),
  }
}
