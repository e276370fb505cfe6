import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained } from '../command-options.ts'
import type { AppOptions } from '../session/app-session.ts'
import { changeMachines } from './change-machines.ts'

/** Two names of one thing: what is suspended is resumed by a start, as in the Machines API. */
const WORDS = {
  start: {
    description: 'Start machines and wait until they are started; suspended ones are resumed',
    doing: 'starting',
  },
  resume: {
    description: 'Resume suspended machines where they were; what is stopped is started',
    doing: 'resuming',
  },
} as const

function registerAs(word: keyof typeof WORDS, parent: Command, context: CliContext): void {
  const { description, doing } = WORDS[word]
  const command = appOption(
    parent.command(word).description(description).argument('<id...>', 'machines'),
  ).option('--no-wait', 'do not wait until they are started')
  explained(command, {
    examples: [`roost machine ${word} 3d8d9014b51089 -a shop`],
    json: '[{id, state: "started"}] (null with --no-wait)',
  })
  command.action((ids: string[], options: AppOptions & { json?: boolean; wait?: boolean }) =>
    changeMachines(context, ids, options, {
      state: 'started',
      doing,
      ask: (client, params) => client.startMachine({ params }),
    }),
  )
}

export const startCommand = {
  register: (parent: Command, context: CliContext): void => registerAs('start', parent, context),
}

export const resumeCommand = {
  register: (parent: Command, context: CliContext): void => registerAs('resume', parent, context),
}
