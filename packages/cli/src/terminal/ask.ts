import type { CliContext } from '../cli-context.ts'
import { Failure, usage } from '../failure/failure.ts'

/** There is somebody to answer. */
export function canAsk(context: CliContext): boolean {
  return context.stdin.isTTY === true && context.stderr.isTTY === true
}

/** Questions go to stderr: stdout is for what a command answers. */
function streams(context: CliContext) {
  return { input: context.stdin as NodeJS.ReadStream, output: context.stderr as NodeJS.WriteStream }
}

export async function askText(
  context: CliContext,
  question: {
    readonly message: string
    readonly initial?: string
    readonly placeholder?: string
    readonly check?: (value: string) => string | undefined
  },
): Promise<string> {
  const { text } = await import('@clack/prompts')
  return answered(
    await text({
      ...streams(context),
      message: question.message,
      ...(question.initial === undefined ? {} : { initialValue: question.initial }),
      ...(question.placeholder === undefined ? {} : { placeholder: question.placeholder }),
      validate: (value) => question.check?.(value ?? ''),
    }),
  )
}

export async function askSecret(context: CliContext, message: string): Promise<string> {
  const { password } = await import('@clack/prompts')
  return answered(
    await password({
      ...streams(context),
      message,
      validate: (value) => (value === undefined || value === '' ? 'nothing was typed' : undefined),
    }),
  )
}

export interface Choice {
  readonly value: string
  readonly label: string
  readonly hint?: string
}

export async function askOne(
  context: CliContext,
  message: string,
  choices: readonly Choice[],
  initial: string,
): Promise<string> {
  const { select } = await import('@clack/prompts')
  return answered(
    await select({
      ...streams(context),
      message,
      options: choices.map((choice) => ({ ...choice })),
      initialValue: initial,
    }),
  )
}

export async function askSome(
  context: CliContext,
  message: string,
  choices: readonly Choice[],
  initial: readonly string[],
): Promise<string[]> {
  const { multiselect } = await import('@clack/prompts')
  return answered(
    await multiselect({
      ...streams(context),
      message,
      options: choices.map((choice) => ({ ...choice })),
      initialValues: [...initial],
      required: true,
    }),
  )
}

/** Without `--yes`: the name has to be typed. With nobody to type it: an error that says so. */
export async function confirmByName(
  context: CliContext,
  name: string,
  what: string,
  yes: boolean,
): Promise<void> {
  if (yes) return
  if (!canAsk(context))
    throw usage(`${what} needs a confirmation, and there is no terminal to ask on`, 'add --yes')
  const typed = await askText(context, {
    message: `${what}. There is no way back. Type ${name} to go on`,
  })
  if (typed.trim() !== name)
    throw new Failure('nothing was done', { why: `"${typed}" is not "${name}"` })
}

export async function confirm(context: CliContext, message: string): Promise<boolean> {
  const prompts = await import('@clack/prompts')
  return answered(await prompts.confirm({ ...streams(context), message, initialValue: false }))
}

function answered<T>(answer: T): Exclude<T, symbol> {
  if (typeof answer === 'symbol') throw new Failure('cancelled', { exitCode: 130 })
  return answer as Exclude<T, symbol>
}
