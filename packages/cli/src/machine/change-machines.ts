import { type ApiClient, ApiError } from '@roost/api'
import type { CliContext } from '../cli-context.ts'
import { printJson } from '../command-options.ts'
import { Failure } from '../failure/failure.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { progressOn } from '../terminal/progress.ts'
import { checkedMachineId } from './machine-id.ts'

/** The server waits at most 60 s at a time; a stop may take 300 s (`kill_timeout`), and a drain comes before it. */
const WAIT_S = 60
const WAITS_MAX = 6

export const WAITED_STATES = ['started', 'stopped', 'suspended', 'destroyed'] as const
export type WaitedState = (typeof WAITED_STATES)[number]

/** Asks for a change of each machine, then waits until all have got there. */
export async function changeMachines(
  context: CliContext,
  ids: readonly string[],
  options: AppOptions & { json?: boolean; wait?: boolean },
  change: {
    /** `stopped`: both the state that is waited for and the word for it. */
    readonly state: WaitedState
    readonly doing: string
    readonly ask: (client: ApiClient, params: { app: string; id: string }) => Promise<unknown>
  },
): Promise<void> {
  const checked = [...new Set(ids.map(checkedMachineId))]
  await withApp(context, options, async ({ client, params }) => {
    const progress = progressOn(context, options.json ? context.stderr : context.stdout)
    const failures: unknown[] = []
    await Promise.all(
      checked.map(async (id) => {
        const machine = { ...params, id }
        try {
          progress.update(id, `${id} is ${change.doing}`)
          await change.ask(client, machine)
          if (options.wait !== false) await untilState(client, machine, change.state)
          progress.finish(
            id,
            'done',
            `${id} is ${options.wait === false ? change.doing : change.state}`,
          )
        } catch (error) {
          failures.push(error)
          progress.finish(id, 'failed', `${id} is not ${change.state}: ${messageOf(error)}`)
        }
      }),
    )
    progress.stop()
    if (failures.length > 0) throw failures[0]
    if (options.json)
      printJson(
        context,
        checked.map((id) => ({ id, state: options.wait === false ? null : change.state })),
      )
  })
}

/** `version`: only that counts, not what was before it. */
export async function untilState(
  client: ApiClient,
  params: { app: string; id: string },
  state: WaitedState,
  version?: string,
): Promise<void> {
  const of = version === undefined ? {} : { version }
  for (let n = 0; n < WAITS_MAX; n++) {
    try {
      await client.waitMachine(
        { params, query: { state, timeout: WAIT_S, ...of } },
        { timeoutMs: (WAIT_S + 15) * 1000 },
      )
      return
    } catch (error) {
      if (!(error instanceof ApiError)) throw error
      if (error.code === 'not_found' && state === 'destroyed') return
      if (error.code !== 'timeout') throw error
    }
  }
  throw new Failure(`${params.id} is not ${state} after ${(WAIT_S * WAITS_MAX) / 60} minutes`, {
    fix: `roost machine status ${params.id} -a ${params.app}`,
  })
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
