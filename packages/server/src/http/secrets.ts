import { PlatformError } from '@roost/base'
import type { AppName } from '@roost/core'
import type { Deps } from '../deps.ts'
import { createRelease } from '../release/create-release.ts'
import { getApp } from '../store/apps.ts'
import { listOpenReleases } from '../store/releases.ts'
import { forgetSecretVersions } from '../store/secret-versions.ts'
import type { Handlers } from './handler.ts'
import { replyTo } from './releases.ts'
import { WAIT_TIMEOUT_MS } from './scale.ts'

export function secretHandlers(
  deps: Pick<Deps, 'store' | 'clock' | 'ids' | 'secrets'>,
): Pick<Handlers, 'listSecrets' | 'setSecrets'> {
  const { store, clock, ids, secrets } = deps
  return {
    listSecrets: ({ params }) =>
      store.read(async (reader) => {
        const app = params.app as AppName
        if ((await getApp(reader, app)) === null)
          throw new PlatformError('not_found', 'app not found')
        return (await secrets.list(reader, app)).map((s) => ({
          name: s.name,
          digest: s.digest,
          created_at: new Date(s.createdAt).toISOString(),
          updated_at: new Date(s.updatedAt).toISOString(),
        }))
      }),

    setSecrets: ({ params, body, caller }) =>
      store.transaction(async (tx) => {
        const name = params.app as AppName
        const now = clock.now()
        const app = await getApp(tx, name)
        if (app === null) throw new PlatformError('not_found', 'app not found')
        await secrets.change(tx, name, body.values, now)
        const released = app.release > 0 || (await listOpenReleases(tx, name)).length > 0
        // Also when nothing is different: earlier changes may have been staged.
        if (body.stage || !released || Object.keys(body.values).length === 0) {
          await forgetSecretVersions(tx, name)
          return { release: null }
        }
        const release = await createRelease(
          tx,
          {
            app: name,
            cause: 'secrets',
            ask: { scale: null, regions: [], ha: true },
            what: null,
            waitTimeoutMs: WAIT_TIMEOUT_MS,
            createdBy: caller.name,
          },
          { now, newId: ids.machineId },
        )
        await forgetSecretVersions(tx, name)
        return { release: await replyTo(tx, release) }
      }),
  }
}
