import type { ApiClient, MachineReply } from '@roost/api'
import type { CliContext } from '../cli-context.ts'
import { Failure, usage } from '../failure/failure.ts'
import { checkedMachineId } from '../machine/machine-id.ts'
import { askOne, canAsk } from '../terminal/ask.ts'

export interface MachineChoice {
  readonly machine?: string
  readonly select?: boolean
  readonly region?: string
}

/** The machine that was named, one that the person picks, or the first that runs. */
export async function chooseMachine(
  context: CliContext,
  client: ApiClient,
  app: string,
  options: MachineChoice,
): Promise<string> {
  if (options.machine !== undefined) return checkedMachineId(options.machine)
  const all = await client.listMachines({
    params: { app },
    query: options.region === undefined ? {} : { region: options.region },
  })
  const running = all.filter(({ state }) => state === 'started')
  const [first] = running
  if (first === undefined) throw noneRuns(app, all, options.region)
  if (options.select !== true) return first.id
  if (!canAsk(context))
    throw usage('--select needs a terminal to ask on', [
      '--machine ID',
      `roost machine list -a ${app}`,
    ])
  return askOne(
    context,
    'Which machine?',
    running.map(({ id, name, region }) => ({ value: id, label: id, hint: `${region} ${name}` })),
    first.id,
  )
}

function noneRuns(app: string, all: readonly MachineReply[], region: string | undefined): Failure {
  const where = region === undefined ? '' : ` in ${region}`
  const [first] = all
  if (first === undefined)
    return new Failure(`${app} has no machine${where}`, {
      fix: [`roost console -a ${app}   # makes one for you`, `roost machine list -a ${app}`],
    })
  const asleep = first.state === 'suspended'
  return new Failure(`no machine of ${app}${where} runs`, {
    why: `${first.id} is ${first.state}`,
    fix: `roost machine ${asleep ? 'resume' : 'start'} ${first.id} -a ${app}`,
  })
}
