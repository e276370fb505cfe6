import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained } from '../command-options.ts'
import { usage } from '../failure/failure.ts'
import type { AppOptions } from '../session/app-session.ts'
import { changeMachines, WAITED_STATES, type WaitedState } from './change-machines.ts'

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('wait')
      .description('Wait until machines are in a state, at most six minutes')
      .argument('<id...>', 'machines'),
  ).option('--state <state>', WAITED_STATES.join(', '), 'started')
  explained(command, {
    examples: ['roost machine wait 3d8d9014b51089 --state stopped -a shop'],
    json: '[{id, state}]',
  })
  command.action((ids: string[], options: AppOptions & { state: string; json?: boolean }) => {
    const state = WAITED_STATES.find((one): one is WaitedState => one === options.state)
    if (state === undefined)
      throw usage(`"${options.state}" can't be waited for: ${WAITED_STATES.join(', ')}`)
    return changeMachines(context, ids, options, {
      state,
      doing: 'waited for',
      ask: async () => {},
    })
  })
}
