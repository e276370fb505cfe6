import { PlatformError } from '@roost/base'
import type { Deps } from '../deps.ts'
import { commandMachine } from '../machine/command.ts'
import { configReply } from '../machine/config-reply.ts'
import { listVersions } from '../store/machines.ts'
import type { Handlers } from './handler.ts'
import { machineOrThrow } from './machines.ts'

const ENTRIES_MAX = 100

/** What may be said of a machine, and was, without a new version of it. Nobody's lease keeps anybody from it. */
export function metadataHandlers(
  deps: Pick<Deps, 'store' | 'clock'>,
): Pick<Handlers, 'getMetadata' | 'setMetadata' | 'deleteMetadata' | 'listMachineVersions'> {
  const { store, clock } = deps

  const change = (
    params: { readonly app: string; readonly id: string; readonly key: string },
    value: string | null,
  ): Promise<undefined> =>
    store.transaction(async (tx) => {
      const machine = await machineOrThrow(tx, params)
      const { metadata } = machine.assignment.config
      const { key } = params
      if (value !== null && !(key in metadata) && Object.keys(metadata).length >= ENTRIES_MAX)
        throw new PlatformError('invalid', `metadata: a machine has at most ${ENTRIES_MAX} entries`)
      const by = { now: clock.now(), source: 'user' } as const
      await commandMachine(tx, machine, { kind: 'metadata', key, value }, by)
      return undefined
    })

  return {
    getMetadata: ({ params }) =>
      store.read(async (reader) => ({
        ...(await machineOrThrow(reader, params)).assignment.config.metadata,
      })),

    setMetadata: ({ params, body }) => change(params, body.value),

    deleteMetadata: ({ params }) => change(params, null),

    listMachineVersions: ({ params }) =>
      store.read(async (reader) => {
        const { assignment } = await machineOrThrow(reader, params)
        const versions = await listVersions(reader, assignment.id)
        return versions.map(({ instanceId, config }) => ({
          version: instanceId,
          user_config: configReply(config),
        }))
      }),
  }
}
