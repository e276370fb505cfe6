import { type ApiClient, ApiError, type LeaseReply } from '@roost/api'
import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { tableText } from '../terminal/table.ts'
import { checkedMachineId } from './machine-id.ts'

type Options = AppOptions & { json?: boolean }
type Lease = LeaseReply['data']
type Held = readonly { readonly id: string; readonly lease: Lease | null }[]

export function register(parent: Command, context: CliContext): void {
  const leases = parent
    .command('leases')
    .description('Leases: who alone may change a machine for a while')
  const view = appOption(
    leases
      .command('view')
      .description('Who holds a lease on which machine, and until when')
      .argument('[id...]', 'machines; else all of the app'),
  )
  explained(view, {
    examples: ['roost machine leases view -a shop'],
    json: '[{id, lease: {nonce, expires_at (unix seconds), owner, description, version} | null}]',
  })
  view.action((ids: string[], options: Options) =>
    withApp(context, options, async ({ client, params }) => {
      const held = await leasesOf(client, params.app, ids)
      if (options.json) return printJson(context, held)
      const lines = held.map(({ id, lease }) =>
        lease === null
          ? [id, '-', '-', '-']
          : [id, lease.owner, timeOf(lease), lease.description || '-'],
      )
      const text = tableText(['MACHINE', 'HELD BY', 'UNTIL', 'WHY'], lines, context.stdout)
      context.stdout.write(lines.length === 0 ? 'No machines.\n' : `${text}\n`)
    }),
  )

  const clear = appOption(
    leases
      .command('clear')
      .description('End leases, whoever holds them: what their holders are doing may fail then')
      .argument('[id...]', 'machines; else all of the app'),
  )
  explained(clear, {
    examples: ['roost machine leases clear 3d8d9014b51089 -a shop'],
    json: '[{id, lease: as in view}]: what was ended',
  })
  clear.action((ids: string[], options: Options) =>
    withApp(context, options, async ({ client, params }) => {
      const held = await leasesOf(client, params.app, ids)
      const ended: Held[number][] = []
      for (const { id, lease } of held) {
        if (lease === null) continue
        const headers = { 'fly-machine-lease-nonce': lease.nonce }
        const gone = await orNull(
          client.releaseLease({ params: { app: params.app, id } }, { headers }),
        )
        if (gone === null) continue
        ended.push({ id, lease })
        if (!options.json) context.stdout.write(`The lease of ${lease.owner} on ${id} is ended\n`)
      }
      if (options.json) return printJson(context, ended)
      if (ended.length === 0) context.stdout.write('Nobody holds a lease there.\n')
    }),
  )
  explained(leases, {
    examples: [
      'roost machine leases view -a shop --json',
      'roost machine leases clear 3d8d9014b51089',
    ],
  })
  leases.action(() => leases.outputHelp())
}

async function leasesOf(client: ApiClient, app: string, ids: readonly string[]): Promise<Held> {
  const checked = [...new Set(ids.map(checkedMachineId))]
  const wanted =
    checked.length > 0
      ? checked
      : (await client.listMachines({ params: { app }, query: {} })).map(({ id }) => id)
  const held: Held[number][] = []
  for (const id of wanted) {
    const reply = await orNull(client.getLease({ params: { app, id } }))
    held.push({ id, lease: reply?.data ?? null })
  }
  return held
}

/** null: there is no such lease, or no longer. */
async function orNull<T>(call: Promise<T>): Promise<T | null> {
  try {
    return await call
  } catch (error) {
    const none = error instanceof ApiError && error.message.includes('lease not found')
    if (none) return null
    throw error
  }
}

function timeOf({ expires_at }: Lease): string {
  const leftS = Math.max(0, expires_at - Math.floor(Date.now() / 1000))
  return `${new Date(expires_at * 1000).toISOString().replace('.000Z', 'Z')} (${leftS} s)`
}
