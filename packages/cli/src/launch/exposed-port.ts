import { type Arg, DockerfileParser, type Env, type From } from 'dockerfile-ast'

/**
 * The first TCP port that the image will expose: of the target stage, or of those that it is made from. Variables are
 * replaced as far as the Dockerfile itself gives their values. null: none is exposed.
 */
export function exposedPort(dockerfile: string, target?: string): number | null {
  const stages = stagesOf(dockerfile)
  const byName = (name: string | null | undefined) =>
    stages.findLast((stage) => stage.name !== null && stage.name === name?.toLowerCase())
  const chain: Stage[] = []
  for (
    let stage = target === undefined ? stages.at(-1) : byName(target);
    stage !== undefined && !chain.includes(stage);
    stage = byName(stage.base)
  )
    chain.unshift(stage)

  const values = new Map<string, string>()
  let found: number | null = null
  for (const stage of chain) {
    let own: number | null = null
    for (const instruction of stage.instructions) {
      const keyword = instruction.getKeyword()
      if (keyword === 'ENV')
        for (const property of (instruction as Env).getProperties())
          values.set(property.getName(), replaced(property.getValue() ?? '', values))
      if (keyword === 'ARG') {
        const property = (instruction as Arg).getProperty()
        const value = property?.getValue()
        if (property && value && !values.has(property.getName()))
          values.set(property.getName(), replaced(value, values))
      }
      if (keyword === 'EXPOSE')
        for (const argument of instruction.getArguments())
          own ??= tcpPort(replaced(argument.getValue(), values))
    }
    found = own ?? found
  }
  return found
}

interface Stage {
  readonly name: string | null
  readonly base: string
  readonly instructions: ReturnType<ReturnType<typeof DockerfileParser.parse>['getInstructions']>
}

function stagesOf(dockerfile: string): Stage[] {
  const stages: Stage[] = []
  for (const instruction of DockerfileParser.parse(dockerfile).getInstructions()) {
    if (instruction.getKeyword() === 'FROM') {
      const from = instruction as From
      stages.push({
        name: from.getBuildStage()?.toLowerCase() ?? null,
        base: from.getImage() ?? '',
        instructions: [],
      })
    } else stages.at(-1)?.instructions.push(instruction)
  }
  return stages
}

function replaced(text: string, values: ReadonlyMap<string, string>): string {
  return text.replace(
    /\$(?:(\w+)|\{(\w+)(?::?-([^}]*))?\})/g,
    (whole, plain, braced, otherwise) => values.get(plain ?? braced) ?? otherwise ?? whole,
  )
}

function tcpPort(text: string): number | null {
  const match = /^(\d+)(?:-\d+)?(?:\/tcp)?$/i.exec(text.replace(/^["']|["']$/g, ''))
  const port = Number(match?.[1])
  return match !== null && port >= 1 && port <= 65535 ? port : null
}
