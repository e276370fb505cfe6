/** Signals that a person may send to a machine, with their numbers on Linux: those that the Machines API names, and SIGUSR2. */
export const MACHINE_SIGNALS = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGILL: 4,
  SIGTRAP: 5,
  SIGABRT: 6,
  SIGFPE: 8,
  SIGKILL: 9,
  SIGUSR1: 10,
  SIGSEGV: 11,
  SIGUSR2: 12,
  SIGPIPE: 13,
  SIGALRM: 14,
  SIGTERM: 15,
} as const

export type MachineSignal = keyof typeof MACHINE_SIGNALS

/** By its name with or without SIG, in any case, or by its number. null: it is none of them. */
export function machineSignal(said: string | number): MachineSignal | null {
  const names = Object.keys(MACHINE_SIGNALS) as MachineSignal[]
  if (typeof said === 'number') return names.find((name) => MACHINE_SIGNALS[name] === said) ?? null
  if (/^\d+$/.test(said)) return machineSignal(Number(said))
  const upper = said.toUpperCase()
  return names.find((name) => name === upper || name === `SIG${upper}`) ?? null
}
